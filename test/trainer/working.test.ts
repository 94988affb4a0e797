// Waits that are no steps: each is told of while it lasts, and a signal that comes then is heard.

import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { isCancelled, unlessCancelled } from '../../ts/trainer/cancel.js'
import { filesOf, readCheckpoint } from '../../ts/trainer/checkpoint_files.js'
import { checkpointsIn, keepNewest, removeLeftovers } from '../../ts/trainer/checkpoints.js'
import type { TrainEvent } from '../../ts/trainer/events.js'
import { trainWith } from '../../ts/trainer/train.js'
import { type Count, workOf } from '../../ts/trainer/working.js'
import { folderOf } from '../folder.js'
import { recordedEngine } from './recorded_engine.js'
import { base, collect, config, ofType } from './run.js'

/** Each wait once: how often it is told of is the machine's matter. */
const waits = (events: TrainEvent[]): string[] => {
  const lines = ofType(events, 'working')
    // Hashing is real here, and told only where the machine is slow.
    .filter(({ what }) => what !== 'hashing')
    .map(({ what, path, unit }) => `${what} ${unit} ${path}`)
  return [...new Set(lines)]
}

test('saving, restoring and reading back are told while they last', async (t) => {
  const run = { ...base(t), save_strategy: 'steps' as const, save_steps: 2 }
  const checkpoint = join(run.output_dir, 'checkpoint-2')
  const first = await collect(recordedEngine({ savePolls: 2 }).engine, { ...run, max_steps: 2 })
  t.deepEqual(waits(first), [
    `saving bytes ${checkpoint}`,
    `saving bytes ${run.output_dir}`,
    `checking blocks ${run.output_dir}`,
  ])
  const resumed = { ...run, max_steps: 2, resume_from_checkpoint: true }
  const second = await collect(recordedEngine({ savePolls: 2 }).engine, resumed)
  t.is(waits(second)[0], `restoring bytes ${checkpoint}`)
  const event = ofType(first, 'working').find(({ what }) => what === 'saving')
  t.like(event, { done: 25, total: 100 })
  t.true((event?.leftMs ?? 0) >= (event?.elapsedMs ?? 1))
})

test('the whole model is counted in bytes when it is read back', async (t) => {
  const run = { ...base(t), lora: null }
  const events = await collect(recordedEngine({ savePolls: 1 }).engine, run)
  t.deepEqual(waits(events), [`saving bytes ${run.output_dir}`, `checking bytes ${run.output_dir}`])
})

test('each byte of a checkpoint is counted while it is hashed, and the time left follows', async (t) => {
  const folder = folderOf(t)
  for (const [name, bytes] of [
    ['a', 3 << 20],
    ['b', 1 << 20],
  ] as const)
    writeFileSync(join(folder, name), Buffer.alloc(bytes))
  let now = 0
  const work = workOf(() => now)
  t.is(work.event(), undefined)
  const counts: Count[] = []
  const files = await filesOf(folder, 'there', {
    ...work,
    begin: (phase) => {
      work.begin(phase)
      counts.push(phase.count())
    },
  })
  t.deepEqual(Object.keys(files), ['a', 'b'])
  t.deepEqual(counts, [{ done: 4 << 20, total: 4 << 20 }])
  now = 3000
  work.begin({ what: 'hashing', path: 'there', unit: 'bytes', count: () => ({ done: 1, total: 4 }) })
  now = 4000
  t.like(work.event(), { type: 'working', elapsedMs: 1000, leftMs: 3000 })
})

test('the signal ends the hashing of a checkpoint', async (t) => {
  const run = { ...base(t), save_strategy: 'steps' as const }
  await collect(recordedEngine().engine, run)
  const path = join(run.output_dir, 'checkpoint-3')
  await t.throwsAsync(readCheckpoint(path, { signal: AbortSignal.abort() }), { code: 'CANCELLED' })
  const options = { signal: AbortSignal.abort() }
  const events = await collect(recordedEngine().engine, { ...run, resume_from_checkpoint: true }, options)
  t.deepEqual(
    events.map(({ type }) => type),
    ['interrupted'],
  )
})

test('the signal ends the wait for what does not end by itself', async (t) => {
  const controller = new AbortController()
  const wait = unlessCancelled(controller.signal, new Promise(() => undefined))
  controller.abort()
  t.true(isCancelled(await t.throwsAsync(wait)))
  t.is(await unlessCancelled(new AbortController().signal, Promise.resolve(7)), 7)
})

test('a signal while the result is saved is answered, and the result is saved', async (t) => {
  const controller = new AbortController()
  const events: TrainEvent[] = []
  const run = trainWith(recordedEngine({ savePolls: 2 }).engine, config(base(t)), {
    signal: controller.signal,
  })
  for await (const event of run) {
    events.push(event)
    if (event.type === 'working') controller.abort()
  }
  const said = ofType(events, 'notice').map(({ message }) => message)
  t.is(said.length, 1)
  t.regex(said[0] ?? '', /its result is being saved .* a second signal ends at once/)
  t.is(events.at(-1)?.type, 'done')
})

test('an old checkpoint that can not be removed is named, and the run goes on', async (t) => {
  // So deep that a checkpoint's name fits into a path, and the longer one that it gets on its way out does not.
  let folder = folderOf(t)
  while (folder.length < 4050)
    folder = join(folder, 'x'.repeat(Math.max(1, Math.min(200, 4050 - folder.length - 1))))
  for (const step of [2, 4]) mkdirSync(join(folder, `checkpoint-${step}`), { recursive: true })
  const said = await keepNewest(folder, 4, 1)
  const place = join(folder, 'checkpoint-2')
  t.deepEqual(said, [`save_total_limit: ${place} can't be removed: the name is too long; it stays`])
  t.deepEqual(readdirSync(folder).sort(), ['checkpoint-2', 'checkpoint-4'])
  rmSync(place, { recursive: true })
  t.deepEqual(await keepNewest(folder, 4, 1), [], 'what can be removed is not spoken of')
})

test('a kill at any point of a replacement leaves a whole checkpoint that is found', async (t) => {
  const run = { ...base(t), save_strategy: 'steps' as const }
  await collect(recordedEngine().engine, run)
  const folder = run.output_dir
  const [own, aside] = [join(folder, 'checkpoint-3'), join(folder, 'checkpoint-3.replaced')]
  renameSync(own, aside)
  // Before the new one has its name.
  t.deepEqual(await checkpointsIn(folder), [{ step: 3, path: aside }])
  await t.notThrowsAsync(readCheckpoint(aside))
  const resumed = await collect(recordedEngine().engine, { ...run, resume_from_checkpoint: true })
  t.like(ofType(resumed, 'resumed')[0], { path: own, step: 3 })
  // After it, before the old one is gone.
  mkdirSync(aside)
  t.deepEqual(await checkpointsIn(folder), [{ step: 3, path: own }])
  await removeLeftovers(folder)
  t.deepEqual(
    readdirSync(folder).filter((name) => name.startsWith('checkpoint')),
    ['checkpoint-3'],
  )
})
