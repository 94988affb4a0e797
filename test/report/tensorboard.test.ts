// TensorBoard's event files, read by a reader of our own that shares no code with the writer.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { crc32c } from '../../ts/report/tensorboard/record.js'
import { newestRun, openEvents, runName, scalarsOf } from '../../ts/report/tensorboard/writer.js'
import { folderOf } from '../folder.js'
import { readEvents } from './event_reader.js'

test('CRC-32C of the vectors of RFC 3720', (t) => {
  t.is(crc32c(Buffer.alloc(32)), 0x8a9136aa)
  t.is(crc32c(Buffer.alloc(32, 0xff)), 0x62a8ab43)
  t.is(crc32c(Buffer.from(Array.from({ length: 32 }, (_, i) => i))), 0x46dd794e)
  t.is(crc32c(Buffer.from('123456789')), 0xe3069283)
})

const log = { loss: 0.65691, grad_norm: 1.25, learning_rate: 1.2166081717612798e-11, epoch: 1.5, step: 300 }

const written = async (t: ExecutionContext): Promise<{ folder: string; path: string }> => {
  const folder = join(folderOf(t), 'runs', 'one')
  const events = await openEvents(folder, () => 1_700_000_000_500)
  await events.write(0, [{ kind: 'text', tag: 'args', text: '{"ä": 1}' }])
  await events.write(300, scalarsOf(log))
  await events.write(300, scalarsOf({ eval_loss: 0.5, eval_runtime: 2, epoch: 1.5, step: 300 }))
  await events.write(2 ** 40, scalarsOf({ train_loss: 0.75, step: 2 ** 40 }))
  await events.close()
  return { folder, path: events.path }
}

test('a file: its name, the bytes that all such files begin with, and what a reader finds', async (t) => {
  const { path } = await written(t)
  t.regex(path, /[\\/]events\.out\.tfevents\.1700000000\.[\w.-]+\.\d+\.0$/)
  const bytes = readFileSync(path)
  // The length of the first record, 24 bytes, and its checksum, as every file of TensorFlow has them.
  t.is(bytes.subarray(0, 13).toString('hex'), '1800000000000000a37f4b2209')
  const { events, rest } = readEvents(bytes)
  t.is(rest, 0)
  t.deepEqual(events[0], { wallTime: 1_700_000_000.5, step: 0, version: 'brain.Event:2' })
  t.like(events[1], { step: 0, tag: 'args/text_summary', text: '{"ä": 1}', plugin: 'text' })
  const scalars = events.slice(2).map(({ step, tag, value }) => [step, tag, value])
  t.deepEqual(scalars, [
    [300, 'train/loss', Math.fround(0.65691)],
    [300, 'train/grad_norm', 1.25],
    [300, 'train/learning_rate', Math.fround(1.2166081717612798e-11)],
    [300, 'train/epoch', 1.5],
    [300, 'eval/loss', 0.5],
    [300, 'eval/runtime', 2],
    [300, 'train/epoch', 1.5],
    [2 ** 40, 'train/train_loss', 0.75],
  ])
})

test('a file that was cut off anywhere holds all whole records before the cut', async (t) => {
  const { path } = await written(t)
  const bytes = readFileSync(path)
  const whole = readEvents(bytes).events.length
  for (let cut = 0; cut < bytes.length; cut += 7) {
    const { events } = readEvents(bytes.subarray(0, cut))
    t.true(events.length < whole)
  }
  const broken = Buffer.from(bytes)
  broken[40] = (broken[40] ?? 0) ^ 1
  t.throws(() => readEvents(broken), { message: /checksum/ })
})

test('a run that goes on writes a new file into the newest folder', async (t) => {
  const { folder } = await written(t)
  const again = await openEvents(folder, () => 1_700_000_000_900)
  await again.close()
  t.is(readdirSync(folder).length, 2)
  const runs = join(folder, '..')
  const later = await openEvents(join(runs, 'a-later-one'), () => 1_700_000_100_000)
  await later.close()
  t.is(await newestRun(runs), join(runs, 'a-later-one'))
  t.is(await newestRun(join(runs, 'none')), undefined)
})

test('the folder is called as Transformers calls it', (t) => {
  t.regex(runName(new Date(2026, 10, 5, 3, 7, 9)), /^Nov05_03-07-09_[\w.-]+$/)
})
