// `lora-train train` on a recorded engine: what it prints where, and how it ends.

import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { failed, recordedEngine, report } from '../trainer/recorded_engine.js'
import { lastLines, runWords } from './help.js'

/** A command line over four rows in two steps. */
const wordsOf = (...more: string[]): string[] => {
  const folder = mkdtempSync(join(tmpdir(), 'lora-train-cli-'))
  const rows = join(folder, 'rows.jsonl')
  writeFileSync(rows, `${JSON.stringify({ instruction: 'i', input: '', output: 'o' })}\n`.repeat(4))
  const config = join(folder, 'run.yaml')
  writeFileSync(config, `model_name_or_path: ./the/model\ndata_path: ${rows}\nlora: {}\ndevice_map: auto\n`)
  const batches = ['--per_device_train_batch_size', '2', '--num_train_epochs', '1', '--logging_steps', '1']
  return ['train', config, '--output_dir', join(folder, 'out'), ...batches, ...more]
}

test('text: notes, the plan, log lines and the closing line', async (t) => {
  const { engine } = recordedEngine()
  const { status, stdout } = await runWords(wordsOf(), engine)
  t.is(status, 0)
  t.regex(stdout, /^Note: device_map \(.*run\.yaml:4\) has no effect: there is one device;/m)
  t.regex(stdout, /^Memory plan$/m)
  t.regex(stdout, /^\{'loss': 1\.0, .*'learning_rate': 5e-05, 'epoch': 0\.5\}$/m)
  t.regex(stdout, /^\{'train_runtime': /m)
})

test('--json: one object per event on stdout, text on stderr', async (t) => {
  const { engine } = recordedEngine()
  const { status, stdout, stderr } = await runWords(wordsOf('--json'), engine)
  t.is(status, 0)
  const types = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line).type)
  t.is(types[0], 'notice')
  t.is(types.at(-1), 'done')
  t.is(types.filter((type) => type === 'log').length, 2)
  t.regex(stderr, /'train_runtime': /)
})

test('the same command again is refused, with what lies there and what to do', async (t) => {
  const words = wordsOf()
  t.is((await runWords(words, recordedEngine().engine)).status, 0)
  const { status, stderr } = await runWords(words, recordedEngine().engine)
  t.is(status, 8)
  const [error = '', hint = ''] = lastLines(stderr, 2)
  t.regex(
    error,
    /^error: the output folder .*out holds a finished run already: adapter_config\.json, tokenizer\.json, /,
  )
  t.regex(hint, /^hint: .*empty folder.*--resume_from_checkpoint.*--overwrite_output_dir true/)
  t.is((await runWords([...words, '--overwrite_output_dir'], recordedEngine().engine)).status, 0)
})

test('a failure of a step is the last line, with its exit status', async (t) => {
  const { engine } = recordedEngine({ step: () => failed('DIVERGED') })
  const { status, stderr } = await runWords(wordsOf(), engine)
  t.is(status, 7)
  t.deepEqual(lastLines(stderr, 2), ['error: as told', 'hint: h'])
})

test('an interrupted run ends as one', async (t) => {
  const controller = new AbortController()
  const { engine } = recordedEngine({
    step: (index, batch) => {
      if (index === 0) return report(1, batch)
      controller.abort()
      return failed('CANCELLED')
    },
  })
  const { status, stderr } = await runWords(wordsOf(), engine, controller.signal)
  t.is(status, 130)
  t.is(lastLines(stderr, 2)[0], 'error: interrupted')
})

test('what is not offered is refused before the engine is asked for', async (t) => {
  const { status, stdout, stderr } = await runWords(wordsOf('--fp16'))
  t.is(status, 2)
  t.is(stdout, '')
  t.regex(stderr, /^error: .*fp16.*\nhint: .*bf16/)
})
