// How a run ends where it doesn't end whole: refused, failed, interrupted. What it leaves behind then is nothing.

import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { train } from '../../ts/api.js'
import type { ConfigInput } from '../../ts/config/index.js'
import { exitStatus } from '../../ts/native/errors.js'
import type { TrainEvent } from '../../ts/trainer/events.js'
import { trainWith } from '../../ts/trainer/train.js'
import { failed, plan, recordedEngine, report } from './recorded_engine.js'
import { base, collect, config, refusal } from './run.js'

test('an output folder below a file is refused before anything is read', async (t) => {
  const { engine, asked } = recordedEngine()
  const values = base(t)
  for (const output_dir of [values.data_path, join(values.data_path, 'a', 'b')]) {
    const error = await refusal(t, () => collect(engine, { ...values, output_dir }))
    t.is(exitStatus(error.code), 8)
    t.true(error.message.includes(output_dir), error.message)
  }
  t.deepEqual(asked.calls, [])
})

test('an output folder where no folder can be made is refused, not waited for', async (t) => {
  if (process.platform !== 'linux') return t.pass()
  const values = { ...base(t), output_dir: '/proc/lora-train/out' }
  const error = await refusal(t, () => collect(recordedEngine().engine, values))
  t.is(error.code, 'OUTPUT')
  t.regex(error.message, /no folder can be made there/)
})

test('where the second folder cannot be made, the first is gone again', async (t) => {
  const { engine } = recordedEngine()
  const values = { ...base(t) }
  const error = await refusal(t, () =>
    collect(engine, { ...values, adapter_output_dir: join(values.data_path, 'x') }),
  )
  t.is(error.code, 'OUTPUT')
  t.false(existsSync(join(values.output_dir, '..')))
})

test('a refused run leaves no empty folder, and an older one with its files as it was', async (t) => {
  const { engine, asked } = recordedEngine()
  const values = base(t)
  writeFileSync(values.data_path, '')
  const error = await refusal(t, () => collect(engine, values))
  t.is(exitStatus(error.code), 3)
  t.false(existsSync(join(values.output_dir, '..')))
  t.false(asked.calls.includes('openSession'))

  mkdirSync(values.output_dir, { recursive: true })
  writeFileSync(join(values.output_dir, 'kept'), '')
  await refusal(t, () => collect(engine, values))
  t.deepEqual(readdirSync(values.output_dir), ['kept'])
})

test('what does not fit is refused with what would, before anything is loaded', async (t) => {
  const { engine, asked } = recordedEngine({ plan: { ...plan, fits: false } })
  const events: TrainEvent[] = []
  const error = await refusal(t, async () => {
    for await (const event of trainWith(engine, config(base(t)))) events.push(event)
  })
  t.is(exitStatus(error.code), 5)
  t.regex(error.hint, /lora\.r 2/)
  t.is(events.at(-1)?.type, 'plan')
  t.false(asked.calls.includes('openSession'))
})

test('a step that fails ends the run with its code, the session closed, nothing saved', async (t) => {
  const { engine, asked } = recordedEngine({
    step: (i, batch) => (i === 1 ? failed('DIVERGED') : report(1, batch)),
  })
  const values = base(t)
  const error = await refusal(t, () => collect(engine, values))
  t.is(exitStatus(error.code), 7)
  t.is(asked.calls.at(-1), 'close')
  t.false(existsSync(values.output_dir))
})

test('the signal drops the step that runs and saves the last whole one: interrupted, closed', async (t) => {
  const controller = new AbortController()
  const { engine, asked } = recordedEngine({
    step: (i, batch) => {
      if (i < 1) return report(1, batch)
      controller.abort()
      return failed('CANCELLED')
    },
  })
  const values = base(t)
  const events = await collect(engine, values, { signal: controller.signal })
  t.deepEqual(events.at(-1), {
    type: 'interrupted',
    step: 1,
    totalSteps: 3,
    checkpoint: join(values.output_dir, 'checkpoint-1'),
  })
  t.is(asked.calls.at(-1), 'close')
  t.deepEqual(readdirSync(values.output_dir), ['checkpoint-1'])
})

test('a signal that comes between two steps ends the run before the next', async (t) => {
  const controller = new AbortController()
  const { engine, asked } = recordedEngine()
  const events: TrainEvent[] = []
  const values = base(t)
  for await (const event of trainWith(engine, config(values), { signal: controller.signal })) {
    events.push(event)
    if (event.type === 'step') controller.abort()
  }
  t.is(asked.batches.length, 1)
  t.deepEqual(events.at(-1), {
    type: 'interrupted',
    step: 1,
    totalSteps: 3,
    checkpoint: join(values.output_dir, 'checkpoint-1'),
  })
})

test('a signal that was given before the run loads nothing', async (t) => {
  const { engine, asked } = recordedEngine()
  const events = await collect(engine, base(t), { signal: AbortSignal.abort() })
  t.deepEqual(
    events.map(({ type }) => type),
    ['interrupted'],
  )
  t.false(asked.calls.includes('openSession'))
})

test('a signal that comes after the last step does not take the result away', async (t) => {
  const controller = new AbortController()
  const { engine } = recordedEngine()
  const values = base(t)
  const events: TrainEvent[] = []
  for await (const event of trainWith(engine, config(values), { signal: controller.signal })) {
    events.push(event)
    if (event.type === 'saved') controller.abort()
  }
  t.is(events.at(-1)?.type, 'done')
  t.true(existsSync(join(values.output_dir, 'trainer_state.json')))
})

test('whoever stops listening closes the session', async (t) => {
  const { engine, asked } = recordedEngine()
  for await (const event of trainWith(engine, config(base(t)))) if (event.type === 'step') break
  t.deepEqual(asked.calls.slice(-2), ['cancel', 'close'])
})

test('an adapter that cannot be saved is an error of the output', async (t) => {
  const { engine } = recordedEngine({ saveAdapter: failed('OUTPUT') })
  const error = await refusal(t, () => collect(engine, base(t)))
  t.is(exitStatus(error.code), 8)
})

test('a result that is not on the disk as in memory is an error of the output', async (t) => {
  const { engine } = recordedEngine({ checkSaved: failed('OUTPUT') })
  const values = base(t)
  const error = await refusal(t, () => collect(engine, values))
  t.is(exitStatus(error.code), 8)
  t.false(existsSync(join(values.output_dir, 'trainer_state.json')), 'the run does not look whole')
})

test('a run without rows or without a folder says what is missing', async (t) => {
  const { engine } = recordedEngine()
  const values = base(t)
  const noRows = await refusal(t, () => collect(engine, { ...values, data_path: null }))
  t.is(exitStatus(noRows.code), 2)
  t.regex(noRows.message, /data_path/)
  const noFolder = await refusal(t, () => collect(engine, { ...values, output_dir: null }))
  t.regex(noFolder.message, /output_dir/)
})

test('the API says what has no effect, before anything is done', async (t) => {
  const values = { ...base(t), max_steps: 2 }
  for await (const event of train(values)) {
    t.like(event, { type: 'notice' })
    break
  }
  t.false(existsSync(values.output_dir))
})

test('the API refuses an option that is not known', async (t) => {
  const error = await refusal(t, () => train({ ...base(t), learning_rat: 1 } as object as ConfigInput).next())
  t.is(exitStatus(error.code), 2)
  t.regex(`${error.message} ${error.hint}`, /learning_rate/)
})
