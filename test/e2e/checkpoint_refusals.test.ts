// Checkpoints that a run can't go on from, on the real program and engine: one message, the exit status, all as it was.

import { cpSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { native } from '../../ts/native/index.js'
import { runWords } from '../cli/help.js'
import { folderOf } from '../folder.js'
import { configIn, runUntil } from './resume.js'

/** A run of a tiny model that was interrupted after step 3, as a config file. */
const interrupted = async (t: ExecutionContext) => {
  const folder = folderOf(t)
  const config = configIn(folder, { lora: { r: 4 } })
  await runUntil(config, 3)
  const file = join(folder, 'run.json')
  writeFileSync(file, JSON.stringify(config))
  return { folder, file, checkpoint: join(config.output_dir, 'checkpoint-3') }
}
type Place = Awaited<ReturnType<typeof interrupted>>

/** Every file below `folder`, with its bytes. */
const contents = (folder: string): Record<string, string> =>
  Object.fromEntries(
    readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => [
        join(parentPath, name),
        readFileSync(join(parentPath, name), 'latin1'),
      ]),
  )

const cases: [title: string, status: number, fact: RegExp, wrong: (place: Place) => string[]][] = [
  ['other options', 2, /lora\.r is 8, and 4 in the checkpoint/, () => ['--lora.r', '8']],
  ['another length', 2, /the run has 30 steps, and 20 in/, () => ['--max_steps', '30']],
  ['full fine-tuning from an adapter', 2, /method is "full", and "lora"/, () => ['--lora', 'false']],
  [
    'another model of the same shapes',
    4,
    /the model \([0-9a-f]{16}\) is not the one/,
    ({ folder }) => {
      const model = join(folder, 'other')
      cpSync(join(folder, 'model'), model, { recursive: true })
      const path = join(model, 'config.json')
      writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), rms_norm_eps: 1e-3 }))
      return ['--model_name_or_path', model]
    },
  ],
  [
    'other rows',
    3,
    /the rows give other tokens/,
    ({ folder }) => {
      const path = join(folder, 'other.json')
      writeFileSync(path, readFileSync(join(folder, 'rows.json'), 'utf8').replace('repeat 1', 'repeat 7'))
      return ['--data_path', path]
    },
  ],
  [
    'a damaged checkpoint',
    4,
    /damaged: optimizer\.safetensors has 1000 bytes/,
    ({ checkpoint }) => {
      truncateSync(join(checkpoint, 'optimizer.safetensors'), 1000)
      return []
    },
  ],
  [
    'a folder that is none',
    4,
    /no lora_train_state\.json/,
    ({ folder }) => ['--resume_from_checkpoint', folder],
  ],
  ['no checkpoint', 2, /there is no checkpoint in/, ({ folder }) => ['--output_dir', join(folder, 'new')]],
]

for (const [title, status, fact, wrong] of cases) {
  test.serial(`${title}: exit ${status}`, async (t) => {
    const place = await interrupted(t)
    const words = ['train', place.file, '--resume_from_checkpoint', 'true', ...wrong(place)]
    const before = contents(place.folder)
    const ended = await runWords(words, await native())
    t.is(ended.status, status, ended.stderr)
    t.regex(ended.stderr, /^(Note: [^\n]+\n)*error: [^\n]+\nhint: [^\n]+\n$/, 'one message, and no stack')
    t.regex(ended.stderr, fact)
    t.deepEqual(contents(place.folder), before, 'nothing is changed or left behind')
  })
}
