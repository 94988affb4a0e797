// A disk that is full, for real: a small tmpfs. Before the run it is refused; in the middle of a checkpoint the run
// ends, and what was whole stays whole.

import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { exitStatus, LoraTrainError, quantize, type TrainEvent, train } from '../../ts/index.js'
import { folderOf } from '../folder.js'
import { configIn, differences, resultOf, runUntil } from './resume.js'

/** A disk of so many KiB, or undefined where this process may not mount one. */
const diskOf = (t: ExecutionContext, kib: number): string | undefined => {
  const path = join(folderOf(t), 'disk')
  mkdirSync(path)
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${kib}k`, 'tmpfs', path])
  if (mounted.status !== 0) {
    t.log(`skipped: ${t.title}: a tmpfs can't be mounted here`)
    t.pass()
    return undefined
  }
  // Before the folder around it is removed.
  t.teardown(() => spawnSync('umount', [path]))
  return path
}

const failureOf = async (t: ExecutionContext, run: () => Promise<unknown>): Promise<LoraTrainError> =>
  (await t.throwsAsync(run, { instanceOf: LoraTrainError })) as LoraTrainError

test('less room than the run will take is refused before anything is loaded', async (t) => {
  const disk = diskOf(t, 400)
  if (disk === undefined) return
  const config = { ...configIn(folderOf(t), {}), output_dir: join(disk, 'out'), save_steps: 1 }
  const events: TrainEvent[] = []
  const error = await failureOf(t, async () => {
    for await (const event of train(config)) events.push(event)
  })
  t.is(exitStatus(error.code), 8)
  t.regex(
    error.message,
    /20 checkpoints of [\d.]+ KiB and the result take \d+ bytes .*, \d+ \(\d+\.\d KiB\) are free/,
  )
  t.regex(error.hint, /save_total_limit/)
  t.is(events.at(-1)?.type, 'plan')
  t.deepEqual(readdirSync(disk), [])
})

test('less room than a quantised model will take is refused before it is loaded', async (t) => {
  const disk = diskOf(t, 8)
  if (disk === undefined) return
  const { model_name_or_path } = configIn(folderOf(t), {})
  const config = { model_name_or_path, output_dir: join(disk, 'out'), quantization: { load_in_8bit: true } }
  const events: TrainEvent[] = []
  const error = await failureOf(t, async () => {
    for await (const event of quantize(config)) events.push(event)
  })
  t.is(exitStatus(error.code), 8)
  t.regex(error.message, /out: the model takes \d+ bytes .*, \d+ \(\d+\.\d KiB\) are free/)
  t.deepEqual(events, [])
  t.deepEqual(readdirSync(disk), [])
})

test('a disk that fills up while a checkpoint is written: the last one is untouched, and goes on', async (t) => {
  const disk = diskOf(t, 40_000)
  if (disk === undefined) return
  const config = { ...configIn(folderOf(t), {}), output_dir: join(disk, 'out'), save_steps: 5 }
  const filler = join(disk, 'filler')
  const error = await failureOf(t, async () => {
    for await (const event of train(config)) {
      if (event.type === 'saved') fill(filler)
    }
  })
  t.is(exitStatus(error.code), 8)
  t.regex(error.message, /No space left|the disk is full/)
  // Pictures of the loss may be there, or may not have found room.
  const left = readdirSync(config.output_dir).filter((name) => !/^(loss|report)\.\w+$/.test(name))
  t.deepEqual(left, ['checkpoint-5'])

  rmSync(filler)
  const events = await runUntil({ ...config, resume_from_checkpoint: true }, Number.POSITIVE_INFINITY)
  t.is(events.at(-1)?.type, 'done')
  const straight = { ...configIn(folderOf(t), {}), save_steps: 5 }
  await runUntil(straight, Number.POSITIVE_INFINITY)
  t.deepEqual(differences(resultOf(straight.output_dir), resultOf(config.output_dir)), [])
})

/** Writes until nothing fits any more, but for a little: the files of a checkpoint begin before the disk ends. */
const fill = (path: string): void => {
  const { bavail, bsize } = statfsSync(dirname(path))
  writeFileSync(path, Buffer.alloc((bavail - 8) * bsize))
}
