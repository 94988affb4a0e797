// Which output folders a run takes: not one with results or somebody's files, unless it is told to.

import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import test from 'ava'
import { exitStatus } from '../../ts/native/errors.js'
import { failed, recordedEngine, report } from './recorded_engine.js'
import { base, collect, ofType, refusal } from './run.js'

/** Every file below a folder, with its content and when it was written. */
const contents = (folder: string): [path: string, content: string, mtimeMs: number][] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => [path, readFileSync(path, 'latin1'), statSync(path).mtimeMs])

const put = (...paths: string[]): void => {
  for (const path of paths) {
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, 'theirs')
  }
}

test('a finished run is refused before anything is read, and stays as it was', async (t) => {
  const run = { ...base(t), save_strategy: 'steps' as const }
  await collect(recordedEngine().engine, run)
  const before = contents(run.output_dir)
  const { engine, asked } = recordedEngine()
  for (const more of [{}, { resume_from_checkpoint: false }]) {
    const error = await refusal(t, () => collect(engine, { ...run, ...more }))
    t.is(exitStatus(error.code), 8)
    t.is(
      error.message,
      `the output folder ${run.output_dir} holds a finished run already: adapter_config.json, tokenizer.json, trainer_state.json`,
    )
    for (const way of ['empty folder', '--resume_from_checkpoint', '--overwrite_output_dir true'])
      t.true(error.hint.includes(way), error.hint)
  }
  t.deepEqual(asked.calls, [])
  t.deepEqual(contents(run.output_dir), before)
})

test('it is written over, or gone on from, where that is asked for', async (t) => {
  const run = { ...base(t), save_strategy: 'steps' as const }
  await collect(recordedEngine().engine, run)
  for (const more of [{ overwrite_output_dir: true }, { resume_from_checkpoint: true }]) {
    put(join(run.output_dir, 'notes.txt'))
    const events = await collect(recordedEngine().engine, { ...run, ...more })
    t.is(events.at(-1)?.type, 'done')
    t.is(readFileSync(join(run.output_dir, 'notes.txt'), 'utf8'), 'theirs')
  }
})

test('files of somebody else are named, in either folder', async (t) => {
  const run = base(t)
  const adapter_output_dir = join(dirname(run.data_path), 'adapter')
  for (const folder of [run.output_dir, adapter_output_dir]) {
    put(...['d', 'b', 'a', 'c', '.hidden'].map((name) => join(folder, name)))
    const error = await refusal(t, () => collect(recordedEngine().engine, { ...run, adapter_output_dir }))
    t.is(error.code, 'OUTPUT')
    t.true(error.message.endsWith(`${folder} holds 4 files already: a, b, c and 1 more`), error.message)
    run.output_dir = join(dirname(run.data_path), 'other')
  }
})

test('an adapter without its log is no free folder either', async (t) => {
  const run = base(t)
  put(join(run.output_dir, 'adapter_model.safetensors'))
  const error = await refusal(t, () => collect(recordedEngine().engine, run))
  t.true(error.message.endsWith('holds 1 file already: adapter_model.safetensors'), error.message)
})

test('what an interrupted run has left is no hindrance, nor is a name that begins with a dot', async (t) => {
  const run = { ...base(t), save_strategy: 'steps' as const, save_steps: 1 }
  const stop = new AbortController()
  const { engine } = recordedEngine({
    step: (index, batch) => {
      if (index < 1) return report(1, batch)
      stop.abort()
      return failed('CANCELLED')
    },
  })
  const interrupted = await collect(engine, run, { signal: stop.signal })
  t.is(interrupted.at(-1)?.type, 'interrupted')
  const names = ['report.html', 'loss.svg', 'loss.png', '.gitignore', 'runs/Nov28_host/events.out']
  put(...names.map((name) => join(run.output_dir, name)))
  const events = await collect(recordedEngine().engine, run)
  t.is(events.at(-1)?.type, 'done')
  t.regex(ofType(events, 'notice')[0]?.message ?? '', /up to step 1; this run starts anew/)
})

test("a run's own folders may lie in one another", async (t) => {
  const run = base(t)
  const inside = (name: string): string => join(run.output_dir, name)
  const places = {
    adapter_output_dir: inside('adapter'),
    logging_dir: inside('logs/board'),
    quantized_cache_dir: inside('cache'),
    report_to: ['tensorboard' as const],
  }
  put(inside('logs/board/events.out'), inside('cache/entry'))
  mkdirSync(inside('adapter'), { recursive: true })
  t.is((await collect(recordedEngine().engine, { ...run, ...places })).at(-1)?.type, 'done')
})
