// The command line: spellings, values, and what is refused with which words.

import test from 'ava'
import { exitStatus } from '../../ts/native/errors.js'
import { failure, fileOf, resolve } from './help.js'

const model = ['--model_name_or_path', 'm']
const configOf = (...words: string[]) => resolve(...model, ...words).config

test('dashes, underscores, equal signs, old and new names are the same option', (t) => {
  for (const words of [
    ['--eval_strategy', 'epoch'],
    ['--eval-strategy=epoch'],
    ['--evaluation_strategy', 'epoch'],
    ['--evaluation-strategy', 'EPOCH'],
  ]) {
    t.is(configOf(...words).eval_strategy, 'epoch')
  }
  t.is(configOf('--block_size', '64').model_max_length, 64)
})

test('booleans are flags, words of Python, YAML and shells, and negated flags', (t) => {
  for (const words of [['--bf16'], ['--bf16', 'True'], ['--bf16=yes'], ['--bf16', '1'], ['--bf16', 'on']]) {
    t.true(configOf(...words).bf16)
  }
  for (const words of [
    ['--packing', 'False'],
    ['--no_packing'],
    ['--no-packing'],
    ['--packing=0'],
    ['--packing', 'no'],
  ]) {
    t.false(configOf(...words).packing)
  }
  t.true(resolve('--bf16', fileOf('a.yaml', 'model_name_or_path: m')).config.bf16)
})

test('numbers are read as Python reads them; null means the default', (t) => {
  t.is(configOf('--learning_rate', '2e-5').learning_rate, 2e-5)
  t.is(configOf('--save_steps', '1_000').save_steps, 1000)
  t.is(configOf('--max_steps', '-1').max_steps, -1)
  t.is(configOf('--eval_steps', 'null').eval_steps, null)
  t.is(configOf('--seed', 'None').seed, 42)
  t.deepEqual(configOf('--modules_to_save', 'None').lora?.modules_to_save, [])
  t.is(configOf('--bias', 'none').lora?.bias, 'none')
  t.is(configOf('--template.prompt_no_input', 'none').template.prompt_no_input, 'none')
  t.is(resolve('--model', 'none').config.model_name_or_path, 'none')
})

test('lists take commas, words and JSON', (t) => {
  for (const words of [['a,b'], ['a', 'b'], ['a, b'], ['["a", "b"]']]) {
    t.deepEqual(configOf('--target_modules', ...words).lora?.target_modules, ['a', 'b'])
  }
  t.is(configOf('--target_modules', 'all-linear').lora?.target_modules, 'all-linear')
  const file = fileOf('a.yml', 'model_name_or_path: m')
  t.deepEqual(resolve('--target_modules', 'a', 'b', file).config.lora?.target_modules, ['a', 'b'])
})

test('aliases of values are the value', (t) => {
  t.is(configOf('--optim', 'adamw_torch_fused').optim, 'adamw_torch')
  t.is(configOf('--optim', 'adamw_bnb_8bit').optim, 'adamw_8bit')
  t.is(configOf('--bnb_4bit_compute_dtype', 'bf16').quantization?.bnb_4bit_compute_dtype, 'bfloat16')
})

test('a section, a flag of it, or any option of it trains an adapter; nothing of it trains all', (t) => {
  t.is(configOf().lora, null)
  for (const words of [
    ['--lora'],
    ['--use_lora'],
    ['--use_peft', 'true'],
    ['--lora_alpha', '8'],
    ['--lora.r', '8'],
  ]) {
    t.is(configOf(...words).lora?.r, 8)
  }
  t.is(configOf('--lora', '{"r": 3, "bias": "all"}').lora?.bias, 'all')
  t.is(configOf('--lora_r', '4', '--lora', 'false').lora, null)
  const file = fileOf('a.yaml', 'model_name_or_path: m\nlora: {r: 4}')
  t.is(resolve(file, '--no_lora').config.lora, null)
  t.is(resolve(file, '--lora_alpha', '3').config.lora?.r, 4)
})

test('the last of several wins, and the command line wins over the file', (t) => {
  const file = fileOf('a.yaml', 'model_name_or_path: m\nseed: 1')
  t.is(resolve(file, '--seed', '2', '--seed', '3').config.seed, 3)
  t.is(resolve('--seed', '2', file).config.seed, 2)
})

test('a template on the command line has line breaks', (t) => {
  const { template } = configOf('--template.prompt_input', '{instruction}\\n\\n### Response:')
  t.is(template.prompt_input, '{instruction}\n\n### Response:')
})

test('an unknown name suggests the nearest', (t) => {
  const cases = {
    '--learning_rat': 'learning_rate',
    '--lora.rank': 'lora.r',
    '--lora_alhpa': 'lora_alpha',
    '--batch_size': 'per_device_train_batch_size',
    '--evaluation_stratgy': 'evaluation_strategy',
    '--use_fast_tokeniser': 'use_fast_tokenizer',
  }
  for (const [flag, name] of Object.entries(cases)) {
    const { code, message, hint } = failure(t, () => configOf(flag, '1'))
    t.is(exitStatus(code), 2)
    t.is(message, `unknown option ${flag}`)
    t.is(hint, `Did you mean --${name}?`)
  }
  t.is(failure(t, () => configOf(`--${'x'.repeat(5000)}`, '1')).hint, 'See --help for all options.')
  t.is(failure(t, () => configOf('-x')).code, 'USAGE')
})

test('a wrong value is named with what is allowed', (t) => {
  const cases: [string[], RegExp][] = [
    [['--lr', 'fast'], /^--lr is "fast"; it takes a number from 0 to 1000$/],
    [['--lora_r', '0'], /^--lora_r is 0; it takes a whole number from 1 to 4096$/],
    [['--lora_r', '1.5'], /^--lora_r is 1\.5; it takes a whole number/],
    [['--adam_beta2', '1'], /^--adam_beta2 is 1; it takes a number from 0 and below 1$/],
    [['--bf16', 'maybe'], /^--bf16 is "maybe"; it takes true or false$/],
    [['--lr_scheduler_type', 'cosin'], /^--lr_scheduler_type is "cosin"; it takes one of linear, cosine/],
    [['--report_to', 'wandb'], /^--report_to is "wandb"; it takes a list of none, all, tensorboard$/],
    [['--memory', 'lots'], /^--memory is "lots"; it takes a size such as 24GiB/],
    [['--memory', ''], /^--memory is \[\]; it takes a list of texts or null, of at least one item$/],
    [['--memory', '24GiB,,24GiB'], /^--memory is ""; it takes a size such as 24GiB/],
    [['--memory', '24GiB, ,24GiB'], /^--memory is ""; it takes a size such as 24GiB/],
    [['--target_modules', 'q.*'], /^--target_modules is "q\.\*"; it takes a module name/],
    [['--lora', '{oops'], /^--lora is "\{oops", which is not JSON$/],
    [['--lora', '{"rank": 3}'], /^unknown option --lora\.rank$/],
    [['--seed'], /^--seed needs a value$/],
    [['--seed', '--bf16'], /^--seed needs a value$/],
    [['--use_dora'], /^--use_dora is true, which is not offered$/],
    [['--label_smoothing_factor', '0.1'], /^--label_smoothing_factor is "0\.1", which is not offered$/],
    [['a.yaml', 'stray'], /^"stray" belongs to no option$/],
  ]
  for (const [words, message] of cases) {
    const error = failure(t, () => configOf(...words))
    t.regex(error.message, message)
    t.is(exitStatus(error.code), 2)
    t.true(error.hint.length > 0)
  }
})

test('an option that nothing works without is named when it is missing', (t) => {
  const error = failure(t, () => resolve('--lr', '1'))
  t.is(error.message, 'model_name_or_path is missing')
  t.is(exitStatus(error.code), 2)
})
