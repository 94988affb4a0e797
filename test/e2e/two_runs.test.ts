// The two runs that the project exists for, word by word through the real program, on stand-ins for their models:
// what they log, against the Transformers Trainer on the same rows and options, and what they leave.

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { pythonRound } from '../../ts/report/python_number.js'
import { bloomWords, mptWords } from '../config/run_words.js'
import { splitSafetensors } from './model.js'
import type { Ended } from './program.js'
import { type Expected, expectedOf, linesOf, type Place, placeOf } from './two_runs.js'

/** What people match the log with: `runs/README.md` of the shared folder gives both. */
const logged = /\{'loss': ([-\d.e+]+),.*'learning_rate': ([-\d.e+]+),.*'epoch': ([\d.]+)\}/
const closed = /'train_runtime': ([\d.]+)/

const ours =
  /^\{'loss': \d+\.\d{1,4}, 'grad_norm': \d+\.\d+, 'learning_rate': [-\d.e]+, 'epoch': \d\.\d{1,2}\}$/
const closing =
  /^\{'train_runtime': [\d.]+, 'train_samples_per_second': [\d.]+, 'train_steps_per_second': [\d.]+, 'train_loss': \d+\.\d+, 'epoch': \d\.0\}$/

const readJson = (...path: string[]): any => JSON.parse(readFileSync(join(...path), 'utf8'))

/** The run has ended well, and has logged the rates and epochs that the Trainer logs, in lines of the same shape. */
const checkLog = (t: ExecutionContext, { status, stdout, stderr }: Ended, expected: Expected): void => {
  t.is(status, 0, stderr)
  const lines = stdout.split('\n')
  const found = lines.flatMap((line) => {
    const match = logged.exec(line)
    if (match === null) return []
    t.regex(line, ours)
    return [match.slice(1, 4).map(Number)]
  })
  t.deepEqual(
    found.map(([, rate, epoch]) => [rate, epoch]),
    linesOf(expected).map((line) => [line.learning_rate, pythonRound(line.epoch, 2)]),
  )
  const ends = lines.filter((line) => closed.test(line))
  t.is(ends.length, 1)
  t.regex(ends[0] ?? '', closing)

  const { trainable_params: trainable, all_params: all } = expected
  const share = Number(((100 * trainable) / all).toPrecision(6))
  const counted = /^Trainable params: (\d+) \|\| all_params: (\d+) \|\| trainable%: ([\d.]+)$/m.exec(stdout)
  t.deepEqual(counted?.slice(1, 3).map(Number), [trainable, all])
  t.true(Math.abs(Number(counted?.[3]) - share) < 1e-3, counted?.[3])
}

/** `trainer_state.json` holds the Trainer's rates, epochs and steps, unrounded, and a loss for each. */
const checkState = (t: ExecutionContext, folder: string, expected: Expected): void => {
  const { log_history, global_step, max_steps } = readJson(folder, 'trainer_state.json')
  const shown = ({ learning_rate, epoch, step }: Record<string, number>) => ({ learning_rate, epoch, step })
  t.deepEqual(
    log_history.slice(0, -1).map(shown),
    linesOf(expected).map((line) => shown({ ...line })),
  )
  for (const { loss, grad_norm } of log_history.slice(0, -1)) t.true(loss > 0 && grad_norm > 0)
  const { epoch, step } = expected.log_history.at(-1) ?? {}
  t.like(log_history.at(-1), { epoch, step })
  t.deepEqual([global_step, max_steps], [step, step])
}

/** The model answers, which it can't without whole files. */
const checkAnswers = async (t: ExecutionContext, place: Place, ...words: string[]): Promise<void> => {
  const { status, stderr } = await place.run(
    'generate',
    ...words,
    '--prompt',
    'Nenne',
    '--max_new_tokens',
    '4',
  )
  t.is(status, 0, stderr)
}

const checkpointsIn = (folder: string): string[] =>
  readdirSync(folder)
    .filter((name) => name.startsWith('checkpoint-'))
    .sort()

test.serial('the full fine-tuning, word by word', async (t) => {
  const place = placeOf(t)
  const expected = expectedOf('bloom')
  const ended = await place.run('train', ...bloomWords())
  checkLog(t, ended, expected)
  const out = join(place.folder, 'full_finetune')
  checkState(t, out, expected)
  t.deepEqual(checkpointsIn(out), ['checkpoint-8'], 'no step 400, and the last one')
  t.true(existsSync(join(out, 'runs')), 'TensorBoard')
  for (const name of ['loss.svg', 'loss.png', 'report.html']) t.true(existsSync(join(out, name)), name)
  const { header } = splitSafetensors(join(out, 'model.safetensors'))
  t.truthy(header['transformer.h.1.self_attention.query_key_value.weight'])
  t.is(header['lm_head.weight'], undefined, 'the head is the embedding')
  t.like(readJson(out, 'config.json'), { model_type: 'bloom', n_embed: 48, num_attention_heads: 3 })
  await checkAnswers(t, place, '--model_name_or_path', './full_finetune')
})

test.serial(
  'the full fine-tuning keeps its newest checkpoints, and goes on from one to the same bits',
  async (t) => {
    const place = placeOf(t)
    const often = [...bloomWords(), '--save_steps', '2']
    checkLog(t, await place.run('train', ...often), expectedOf('bloom'))
    const out = join(place.folder, 'full_finetune')
    t.deepEqual(checkpointsIn(out), ['checkpoint-4', 'checkpoint-6', 'checkpoint-8'])
    const from = ['--resume_from_checkpoint', './full_finetune/checkpoint-4', '--output_dir', './again']
    const again = await place.run('train', ...often, ...from)
    t.is(again.status, 0, again.stderr)
    const weights = (folder: string): Buffer => readFileSync(join(place.folder, folder, 'model.safetensors'))
    t.true(weights('again').equals(weights('full_finetune')))
    checkState(t, join(place.folder, 'again'), expectedOf('bloom'))
  },
)

/** The result of the QLoRA: adapter and tokenizer in `PEFT_MODEL`, the log in `Qlora/Gerlefant`. */
const checkAdapter = (t: ExecutionContext, { folder }: Place): Buffer => {
  const result = join(folder, 'PEFT_MODEL')
  t.like(readJson(result, 'adapter_config.json'), { r: 64, lora_alpha: 16, lora_dropout: 0.05, bias: 'none' })
  const { target_modules } = readJson(result, 'adapter_config.json')
  t.deepEqual([...target_modules].sort(), ['down_proj', 'up_proj'])
  const path = join(result, 'adapter_model.safetensors')
  const names = Object.keys(splitSafetensors(path).header).filter((name) => name !== '__metadata__')
  // 512 rows are room enough for [PAD]: nothing has grown, and no embedding is saved.
  t.is(names.length, 2 * 2 * 2)
  t.true(names.every((name) => /\.ffn\.(up|down)_proj\.lora_[AB]\.weight$/.test(name)))
  const { added_tokens } = readJson(result, 'tokenizer.json')
  t.like(
    added_tokens.find(({ content }: { content: string }) => content === '[PAD]'),
    { id: 475, special: true },
  )
  t.is(readJson(result, 'tokenizer_config.json').pad_token, '[PAD]')
  t.is(readJson(result, 'tokenizer_config.json').eos_token, '<|endoftext|>', 'the name says nothing of llama')
  t.deepEqual(checkpointsIn(join(folder, 'Qlora', 'Gerlefant')), [])
  return readFileSync(path)
}

test.serial('the QLoRA, as a file and as one command line, dotted and flat', async (t) => {
  const expected = expectedOf('mpt')
  const adapters: Buffer[] = []
  for (const words of [['mpt-30b-qlora.yaml'], mptWords('dotted'), mptWords('flat')]) {
    const place = placeOf(t)
    const ended = await place.run('train', ...words)
    checkLog(t, ended, expected)
    for (const said of [
      /^Note: (--)?use_fast_tokenizer /m,
      /^Note: (--)?device_map /m,
      /there is no evaluation/,
    ])
      t.regex(ended.stdout + ended.stderr, said)
    checkState(t, join(place.folder, 'Qlora', 'Gerlefant'), expected)
    adapters.push(checkAdapter(t, place))
    if (adapters.length === 1) {
      await checkAnswers(t, place, '--model_name_or_path', '~/mpt_30B', '--adapter', './PEFT_MODEL')
    }
  }
  t.true(adapters[0]?.equals(adapters[1] ?? Buffer.of()), 'a file and a command line give the same bits')
  t.true(adapters[0]?.equals(adapters[2] ?? Buffer.of()))
})
