// Checkpoints on a recorded engine: when they come, what they hold, which stay, and what a full folder of kills leaves.

import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { exitStatus } from '../../ts/native/errors.js'
import type { TrainEvent } from '../../ts/trainer/events.js'
import { trainWith } from '../../ts/trainer/train.js'
import { failed, recordedEngine, report } from './recorded_engine.js'
import { base, collect, config, ofType, refusal } from './run.js'

const named = (folder: string): string[] => readdirSync(folder).filter((name) => name.includes('checkpoint'))
const saved = (events: TrainEvent[]): string[] =>
  ofType(events, 'saved').flatMap(({ what, path }) => (what === 'checkpoint' ? [path] : []))

test('by steps a checkpoint also comes at the end, by epochs after each, else never', async (t) => {
  const cases = [
    [{ save_strategy: 'steps', save_steps: 2 }, [2, 4, 6, 7]],
    [{ save_strategy: 'steps', save_steps: 0.5 }, [4, 7]],
    [{ save_strategy: 'epoch' }, [3, 6, 7]],
    [{ save_strategy: 'no' }, []],
  ] as const
  for (const [values, steps] of cases) {
    const run = { ...base(t), max_steps: 7, ...values }
    const events = await collect(recordedEngine().engine, run)
    t.deepEqual(
      saved(events),
      steps.map((step) => join(run.output_dir, `checkpoint-${step}`)),
      JSON.stringify(values),
    )
    t.deepEqual(named(run.output_dir), steps.map((step) => `checkpoint-${step}`).sort())
  }
})

test('it holds the state of the engine, the tokenizer, the log, and a checksum of each', async (t) => {
  const run = { ...base(t), save_strategy: 'steps' as const, save_steps: 2 }
  const { engine, asked } = recordedEngine()
  await collect(engine, run)
  const folder = join(run.output_dir, 'checkpoint-2')
  t.deepEqual(readdirSync(folder).sort(), [
    'lora_train_state.json',
    'optimizer.safetensors',
    'tokenizer.json',
    'trainer_state.json',
  ])
  t.true(asked.calls.includes('saveState ./the/model'))
  const trainer = JSON.parse(readFileSync(join(folder, 'trainer_state.json'), 'utf8'))
  t.like(trainer, { global_step: 2, max_steps: 3, save_steps: 2, epoch: 2 / 3 })
  t.is(trainer.log_history.length, 2)
  const state = JSON.parse(readFileSync(join(folder, 'lora_train_state.json'), 'utf8'))
  t.like(state.run, { step: 2, lossSum: 3, stepsSinceLog: 0, evaluationPending: false })
  t.like(state.agreement, { totalSteps: 3, model: '0123456789abcdef' })
  t.deepEqual(Object.keys(state.files), ['optimizer.safetensors', 'tokenizer.json', 'trainer_state.json'])
})

test('the oldest go only when the newest is whole, and those after it are the oldest', async (t) => {
  const run = { ...base(t, 12), save_strategy: 'steps' as const, save_steps: 2, save_total_limit: 2 }
  mkdirSync(join(run.output_dir, 'checkpoint-500'), { recursive: true })
  const events = trainWith(recordedEngine().engine, config(run))
  const there: string[][] = []
  for await (const event of events) {
    if (event.type === 'saved' && event.what === 'checkpoint') there.push(named(run.output_dir).sort())
  }
  t.deepEqual(there, [
    ['checkpoint-2', 'checkpoint-500'],
    ['checkpoint-2', 'checkpoint-4', 'checkpoint-500'],
    ['checkpoint-2', 'checkpoint-4', 'checkpoint-6'],
  ])
  t.deepEqual(named(run.output_dir).sort(), ['checkpoint-4', 'checkpoint-6'])
})

test('an earlier run in the folder is said, unless it is gone on from', async (t) => {
  const run = { ...base(t), save_strategy: 'steps' as const }
  await collect(recordedEngine().engine, run)
  const events = await collect(recordedEngine().engine, { ...run, overwrite_output_dir: true })
  t.regex(ofType(events, 'notice')[0]?.message ?? '', /up to step 3; this run starts anew/)
  const resumed = await collect(recordedEngine().engine, { ...run, resume_from_checkpoint: true })
  t.deepEqual(ofType(resumed, 'notice'), [])
})

test('a checkpoint that fails leaves the older ones and nothing half-written', async (t) => {
  const run = { ...base(t), save_strategy: 'steps' as const, save_steps: 1 }
  await collect(recordedEngine().engine, { ...run, max_steps: 1 })
  const before = readFileSync(join(run.output_dir, 'checkpoint-1', 'lora_train_state.json'))
  const { engine, asked } = recordedEngine({ saveState: failed('OUTPUT') })
  const error = await refusal(t, () => collect(engine, { ...run, overwrite_output_dir: true }))
  t.is(exitStatus(error.code), 8)
  t.is(asked.calls.at(-1), 'close')
  t.deepEqual(named(run.output_dir), ['checkpoint-1'])
  t.deepEqual(readFileSync(join(run.output_dir, 'checkpoint-1', 'lora_train_state.json')), before)
})

test('a step that diverges writes no checkpoint, and the last one stays', async (t) => {
  const run = { ...base(t), save_strategy: 'steps' as const, save_steps: 1 }
  const step = (i: number, batch: Parameters<typeof report>[1]) =>
    i === 2 ? failed('DIVERGED') : report(1, batch)
  const error = await refusal(t, () => collect(recordedEngine({ step }).engine, run))
  t.is(exitStatus(error.code), 7)
  t.deepEqual(named(run.output_dir).sort(), ['checkpoint-1', 'checkpoint-2'])
})

test('what a kill left behind is gone when the next run starts, and nothing else is', async (t) => {
  const run = { ...base(t), overwrite_output_dir: true }
  const uuid = '0b7a3c52-4c1e-4a55-9df7-2f4a1f0f6a11'
  const [left, kept] = [
    [`.checkpoint-3.${uuid}.tmp`, `trainer_state.json.${uuid}.tmp`, 'model.safetensors.tmp-77-0'],
    ['checkpoint-x', '.checkpoint-3', 'notes.tmp', 'checkpoint-3.tmp'],
  ]
  for (const name of [...left, ...kept]) mkdirSync(join(run.output_dir, name), { recursive: true })
  const beside = [`${run.output_dir}.tmp-77-0`, `${run.output_dir}2.tmp-77-0`] as const
  for (const folder of beside) mkdirSync(folder)
  await collect(recordedEngine().engine, run)
  for (const name of left) t.false(existsSync(join(run.output_dir, name)), name)
  for (const name of kept) t.true(existsSync(join(run.output_dir, name)), name)
  t.deepEqual(beside.map(existsSync), [false, true])
})

test('the signal saves the last whole step, and nothing where nothing is new', async (t) => {
  const run = { ...base(t), save_strategy: 'steps' as const, save_steps: 1 }
  const controller = new AbortController()
  const events: TrainEvent[] = []
  const { engine, asked } = recordedEngine()
  for await (const event of trainWith(engine, config(run), { signal: controller.signal })) {
    events.push(event)
    if (event.type === 'saved') controller.abort()
  }
  t.is(asked.calls.filter((call) => call.startsWith('saveState')).length, 1)
  t.like(events.at(-1), { type: 'interrupted', step: 1, checkpoint: join(run.output_dir, 'checkpoint-1') })
})

test('a run that is resumed and interrupted at once names the checkpoint that it came from', async (t) => {
  const run = { ...base(t), save_strategy: 'steps' as const, save_steps: 2 }
  await collect(recordedEngine().engine, run)
  const from = join(run.output_dir, 'checkpoint-2')
  const { engine, asked } = recordedEngine()
  const controller = new AbortController()
  const resumed = config({ ...run, resume_from_checkpoint: from })
  let last: TrainEvent | undefined
  for await (const event of trainWith(engine, resumed, { signal: controller.signal })) {
    last = event
    if (event.type === 'resumed') controller.abort()
  }
  t.like(last, { type: 'interrupted', step: 2, checkpoint: from })
  t.false(asked.calls.some((call) => call.startsWith('saveState')))
})

test('a resumed run asks for the rows and rates that are left, and logs on', async (t) => {
  const run = { ...base(t, 10), num_train_epochs: 2, save_strategy: 'steps' as const, logging_steps: 3 }
  const whole = recordedEngine()
  const wholeLog = ofType(await collect(whole.engine, run), 'log')
  for (const save_steps of [1, 4, 5, 7, 9]) {
    const output_dir = join(run.output_dir, String(save_steps))
    const values = { ...run, output_dir, save_steps }
    await collect(recordedEngine().engine, values)
    const from = join(run.output_dir, 'from')
    cpSync(join(output_dir, `checkpoint-${save_steps}`), from, { recursive: true })
    // The recorded loss counts the calls of a session; a resumed one counts on.
    const step = (i: number, batch: Parameters<typeof report>[1]) => report(i + 1 + save_steps, batch)
    const { engine, asked } = recordedEngine({ step })
    const events = await collect(engine, { ...values, resume_from_checkpoint: from })
    t.deepEqual(asked.rates, whole.asked.rates.slice(save_steps))
    t.deepEqual(asked.batches, whole.asked.batches.slice(save_steps))
    t.true(asked.calls.includes(`loadState ${save_steps}`))
    t.deepEqual(
      ofType(events, 'log'),
      wholeLog.filter(({ log }) => log.step > save_steps),
    )
    t.like(ofType(events, 'resumed')[0], { path: from, step: save_steps })
    t.is(ofType(events, 'done')[0]?.log.train_loss, 5.5)
  }
})

test('an evaluation that the signal cut off comes again, once', async (t) => {
  const run = { ...base(t), save_strategy: 'no' as const, eval_strategy: 'steps' as const, eval_steps: 2 }
  const eval_data_path = join(run.output_dir, '..', '..', 'eval.jsonl')
  writeFileSync(eval_data_path, readFileSync(run.data_path))
  const values = { ...run, eval_data_path, per_device_eval_batch_size: 1 }
  const controller = new AbortController()
  for await (const event of trainWith(recordedEngine().engine, config(values), {
    signal: controller.signal,
  })) {
    if (event.type === 'evaluating') controller.abort()
  }
  const { engine } = recordedEngine()
  await collect(engine, { ...values, resume_from_checkpoint: true })
  const { log_history } = JSON.parse(readFileSync(join(run.output_dir, 'trainer_state.json'), 'utf8'))
  const lines = (log_history as { step: number; eval_loss?: number }[]).map(
    ({ step, eval_loss }) => `${eval_loss === undefined ? 'log' : 'eval'} ${step}`,
  )
  t.deepEqual(lines, ['log 1', 'log 2', 'eval 2', 'log 3', 'eval 3', 'log 3'])
})
