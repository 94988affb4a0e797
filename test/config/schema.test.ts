// The schema: defaults, and that every option says what help and the reference need.

import { readFileSync } from 'node:fs'
import test from 'ava'
import { z } from 'zod'
import { ConfigSchema, configHelp, engineOptions, parseBytes, reference } from '../../ts/config/index.js'
import { Vocabulary } from '../../ts/config/names.js'

test('the defaults are those of TrainingArguments, LoraConfig and the usual Alpaca template', (t) => {
  const config = ConfigSchema.parse({ model_name_or_path: 'm', lora: {} })
  t.like(config, {
    num_train_epochs: 3,
    max_steps: -1,
    per_device_train_batch_size: 8,
    gradient_accumulation_steps: 1,
    learning_rate: 5e-5,
    weight_decay: 0,
    adam_beta1: 0.9,
    adam_beta2: 0.999,
    adam_epsilon: 1e-8,
    max_grad_norm: 1,
    lr_scheduler_type: 'linear',
    warmup_steps: 0,
    logging_steps: 500,
    eval_strategy: 'no',
    seed: 42,
    bf16: false,
    lora: { r: 8, lora_alpha: 8, lora_dropout: 0, target_modules: null, bias: 'none', use_rslora: false },
    quantization: null,
  })
  t.is(
    config.template.prompt_input,
    'Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:',
  )
  t.is(
    config.template.prompt_no_input,
    'Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Response:',
  )
})

test('every option has a description, a source and a heading', (t) => {
  for (const { id, section, meta } of new Vocabulary(true).options) {
    t.truthy(meta.description, id)
    t.truthy(meta.source, id)
    t.is(meta.group === undefined, section !== null, id)
  }
})

test('help and the reference name every option and its default', (t) => {
  const help = configHelp().join('\n')
  const page = reference()
  for (const { id } of new Vocabulary(true).options) {
    t.true(help.includes(`--${id} `), id)
    t.true(page.includes(`| \`${id}\` |`), id)
  }
  t.regex(help, /--learning_rate <x>\n {8}Highest learning rate.*\[0\.00005\]/)
  t.regex(help, /--model_name_or_path <text>\n.*\[required\]/)
  t.regex(help, /Section lora: Train a LoRA adapter/)
  t.regex(page, /`lora\.r` \| a whole number from 1 to 4096 \| 8 \|/)
})

test('docs/config.md is what the schema says', (t) => {
  // Where it is not: npx tsx scripts/make-config-reference.ts
  t.is(readFileSync(new URL('../../docs/config.md', import.meta.url), 'utf8'), reference())
})

test('two options of one name are a mistake of ours', (t) => {
  t.throws(() => new Vocabulary(true, z.strictObject({ seed: z.int().default(1) })), {
    instanceOf: TypeError,
  })
})

test('the engine gets the values under its own names', (t) => {
  const config = ConfigSchema.parse({
    model_name_or_path: 'm',
    memory: ['1.5GiB'],
    bf16: true,
    lora: { r: 4 },
  })
  const options = engineOptions(config)
  t.like(options, {
    model: 'm',
    computeDtype: 'bf16',
    memoryBytes: 1_610_612_736,
    gradientCheckpointing: null,
  })
  t.deepEqual(options.method, {
    kind: 'lora',
    r: 4,
    loraAlpha: 8,
    loraDropout: 0,
    targetModules: null,
    bias: 'none',
    modulesToSave: [],
    useRslora: false,
  })
  t.deepEqual(engineOptions(ConfigSchema.parse({ model_name_or_path: 'm' })).method, { kind: 'full' })
})

test('an optimizer is an arithmetic and a place for its state', (t) => {
  const optimizer = (optim?: string) =>
    engineOptions(ConfigSchema.parse({ model_name_or_path: 'm', output_dir: 'out', optim })).optimizer
  t.like(optimizer(), { kind: 'adamw', paged: false })
  t.like(optimizer('adamw_8bit'), { kind: 'adamw8bit', paged: false })
  t.like(optimizer('paged_adamw_8bit'), { kind: 'adamw8bit', paged: true, stateDir: 'out' })
  t.like(optimizer('paged_adamw_32bit'), { kind: 'adamw32bit', paged: true, stateDir: 'out' })
})

test('4-bit weights get what BitsAndBytesConfig says', (t) => {
  const optionsOf = (quantization: object) =>
    engineOptions(ConfigSchema.parse({ model_name_or_path: 'm', bf16: true, lora: {}, quantization }))
  t.like(optionsOf({}), { quantization: null, computeDtype: 'bf16' })
  const four = { load_in_4bit: true, bnb_4bit_quant_type: 'nf4' }
  t.deepEqual(optionsOf(four).quantization, {
    kind: 'fourBits',
    quantType: 'nf4',
    doubleQuant: false,
    blockSize: 64,
    skipModules: [],
  })
  // As BitsAndBytesConfig has it.
  t.like(optionsOf({ load_in_4bit: true }), { quantization: { quantType: 'fp4' } })
  t.like(
    optionsOf({ ...four, bnb_4bit_use_double_quant: true, llm_int8_skip_modules: ['lm_head', 'o_proj'] }),
    {
      quantization: { doubleQuant: true, skipModules: ['lm_head', 'o_proj'] },
    },
  )
  t.is(optionsOf(four).computeDtype, 'f32')
  t.is(optionsOf({ ...four, bnb_4bit_compute_dtype: 'bfloat16' }).computeDtype, 'bf16')
})

test('int8 weights get what BitsAndBytesConfig says, and bf16 says what they are multiplied in', (t) => {
  const quantization = { load_in_8bit: true, llm_int8_skip_modules: ['o_proj'] }
  const of = (bf16: boolean) =>
    engineOptions(ConfigSchema.parse({ model_name_or_path: 'm', bf16, lora: {}, quantization }))
  t.deepEqual(of(true).quantization, { kind: 'int8', skipModules: ['o_proj'] })
  t.deepEqual(
    [of(true), of(false)].map((options) => options.computeDtype),
    ['bf16', 'f32'],
  )
})

test('sizes are read in powers of 1024 and of 1000', (t) => {
  t.is(parseBytes('24GiB'), 24 * 2 ** 30)
  t.is(parseBytes('24GB'), 24e9)
  t.is(parseBytes('24G'), 24 * 2 ** 30)
  t.is(parseBytes(' 512 MiB '), 512 * 2 ** 20)
  t.is(parseBytes('1000'), 1000)
  t.throws(() => parseBytes('much'))
})
