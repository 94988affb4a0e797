// What a run refuses to go on from: no checkpoint, a damaged one, one of another run. Each by its name.

import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { ConfigInput } from '../../ts/config/index.js'
import { exitStatus } from '../../ts/native/errors.js'
import { type Answers, recordedEngine } from './recorded_engine.js'
import { base, collect, ofType, refusal } from './run.js'

/** A finished run with checkpoints 1, 2 and 3. */
const finished = async (t: ExecutionContext) => {
  const run = { ...base(t), save_strategy: 'steps' as const, save_steps: 1, logging_steps: 10 }
  await collect(recordedEngine().engine, run)
  return { run, at: (step: number) => join(run.output_dir, `checkpoint-${step}`) }
}

const on = (values: ConfigInput, from: string | true = true, answers: Answers = {}) => {
  const { engine, asked } = recordedEngine(answers)
  return { asked, events: collect(engine, { ...values, resume_from_checkpoint: from }) }
}

/** What can be wrong with a checkpoint, and what is said of it. */
const damages: [what: RegExp, damage: (folder: string) => void][] = [
  [
    /optimizer\.safetensors has 0 bytes, 1 were written/,
    (at) => truncateSync(join(at, 'optimizer.safetensors')),
  ],
  [/checksum of optimizer\.safetensors/, (at) => writeFileSync(join(at, 'optimizer.safetensors'), 'x')],
  [/tokenizer\.json is missing/, (at) => rmSync(join(at, 'tokenizer.json'))],
  [/no lora_train_state\.json/, (at) => rmSync(join(at, 'lora_train_state.json'))],
  [/lora_train_state\.json is not JSON/, (at) => truncateSync(join(at, 'lora_train_state.json'), 100)],
  [
    /checksum in lora_train_state\.json/,
    (at) => {
      const path = join(at, 'lora_train_state.json')
      writeFileSync(path, readFileSync(path, 'utf8').replace(/"lossSum": \d+/, '"lossSum": 1000'))
    },
  ],
  [
    /no lora_train_state\.json/,
    (at) => {
      rmSync(at, { recursive: true })
      mkdirSync(at)
    },
  ],
]

test('no checkpoint: said, with what to do', async (t) => {
  const error = await refusal(t, () => on(base(t)).events)
  t.is(exitStatus(error.code), 2)
  t.regex(error.message, /there is no checkpoint in /)
  const named = await refusal(t, () => on(base(t), 'nowhere/checkpoint-5').events)
  t.is(exitStatus(named.code), 2)
  t.regex(named.message, /nowhere\/checkpoint-5 does not exist/)
})

for (const [at, [what, damage]] of damages.entries()) {
  test(`damage ${at + 1}: ${what.source}`, async (t) => {
    const { run, at: folder } = await finished(t)
    damage(folder(3))
    const error = await refusal(t, () => on(run, folder(3)).events)
    t.is(exitStatus(error.code), 4)
    t.true(error.message.startsWith(`${folder(3)}: `), error.message)
    t.regex(error.message, what)

    const { asked, events } = on(run)
    const [notice] = ofType(await events, 'notice')
    t.regex(notice?.message ?? '', what)
    t.true(notice?.message.endsWith(`${folder(2)}, the newest whole one, is taken`), notice?.message)
    t.true(asked.calls.includes('loadState 2'))
    // The run has come there again.
    t.is(ofType(await on(run).events, 'resumed')[0]?.step, 3)
  })
}

test('where every checkpoint is damaged, the newest is named and nothing is changed', async (t) => {
  const { run, at } = await finished(t)
  for (const step of [1, 2, 3]) writeFileSync(join(at(step), 'tokenizer.json'), 'other')
  const before = readdirSync(run.output_dir, { recursive: true })
  const error = await refusal(t, () => on(run).events)
  t.is(exitStatus(error.code), 4)
  t.true(error.message.startsWith(`${at(3)}: `))
  t.regex(error.hint, /None of the 3 checkpoints/)
  t.deepEqual(readdirSync(run.output_dir, { recursive: true }), before)
})

test('a file outside the folder is none of a checkpoint', async (t) => {
  const { run, at } = await finished(t)
  const path = join(at(3), 'lora_train_state.json')
  const { stateFileText } = await import('../../ts/trainer/checkpoint_files.js')
  const { sha256: _, ...body } = JSON.parse(readFileSync(path, 'utf8'))
  writeFileSync(
    path,
    stateFileText({ ...body, files: { '../trainer_state.json': body.files['trainer_state.json'] } }),
  )
  const error = await refusal(t, () => on(run, at(3)).events)
  t.regex(error.message, /names "\.\.\/trainer_state\.json", no plain file/)
})

test('other options are refused with both values, before the model is loaded', async (t) => {
  const { run, at } = await finished(t)
  const cases: [ConfigInput, RegExp][] = [
    [{ ...run, lora: { r: 4 } }, /lora\.r is 4, and 8 in the checkpoint/],
    [{ ...run, lora: null }, /method is "full", and "lora" in the checkpoint/],
    [{ ...run, seed: 1 }, /seed is 1, and 42 in the checkpoint/],
    [{ ...run, learning_rate: 1 }, /learning_rate is 1, and 0\.00005 in/],
    [{ ...run, per_device_train_batch_size: 2, gradient_accumulation_steps: 1 }, /batch_size is 2, and 1 in/],
    [{ ...run, packing: false }, /packing is false, and true/],
    [{ ...run, bf16: true }, /compute_dtype is "bf16", and "f32"/],
    [{ ...run, model_max_length: 100 }, /model_max_length is 100, and 512/],
    [{ ...run, num_train_epochs: 2 }, /the run has 6 steps, and 3 in/],
    [{ ...run, warmup_steps: 2 }, /the warm-up has 2 steps, and 0 in/],
  ]
  for (const [values, says] of cases) {
    const { asked, events } = on(values, at(2))
    const error = await refusal(t, () => events)
    t.is(exitStatus(error.code), 2)
    t.true(error.message.startsWith(`${at(2)}: `))
    t.regex(error.message, says)
    t.false(asked.calls.includes('openSession'))
  }
})

test('options that do not change the result may differ', async (t) => {
  const { run, at } = await finished(t)
  const other = { threads: 1, memory: ['90'], logging_steps: 1, save_steps: 3, save_total_limit: 1 }
  const events = await on({ ...run, ...other, output_dir: join(run.output_dir, 'x') }, at(2)).events
  t.is(ofType(events, 'resumed')[0]?.step, 2)
  t.is(events.at(-1)?.type, 'done')
})

test('where the rate does not know the length of the run, it may grow', async (t) => {
  const { run, at } = await finished(t)
  const constant = { ...run, lr_scheduler_type: 'constant' as const, overwrite_output_dir: true }
  await collect(recordedEngine().engine, constant)
  const { asked, events } = on({ ...constant, num_train_epochs: 2 }, at(3))
  t.is((await events).at(-1)?.type, 'done')
  t.is(asked.batches.length, 3)
  const shorter = await refusal(t, () => on({ ...constant, max_steps: 2 }, at(3)).events)
  t.regex(shorter.message, /the run has 2 steps, and 6 in|the run has 2 steps, and 3 in/)
})

test('other rows are an error of the data, another model one of the model', async (t) => {
  const { run, at } = await finished(t)
  const from = join(run.output_dir, '..', 'from')
  cpSync(at(2), from, { recursive: true })
  const model = await refusal(t, () => on(run, from, { info: { fingerprint: 'fedcba9876543210' } }).events)
  t.is(exitStatus(model.code), 4)
  t.regex(model.message, /fedcba9876543210\) is not the one that it was trained on \(0123456789abcdef/)
  writeFileSync(run.data_path, readFileSync(run.data_path, 'utf8').split('\n').slice(1).join('\n'))
  const rows = await refusal(t, () => on({ ...run, max_steps: 3 }, from).events)
  t.is(exitStatus(rows.code), 3)
  t.regex(rows.message, /the rows give other tokens/)
})
