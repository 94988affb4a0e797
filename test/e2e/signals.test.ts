// Signals to the real program in the middle of a step: how it ends, and what it leaves.

import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { readCheckpoint } from '../../ts/trainer/checkpoint_files.js'
import { checkpointsIn } from '../../ts/trainer/checkpoints.js'
import { folderOf } from '../folder.js'
import { writeRandomModel, writeTokenizer } from './model.js'
import { start } from './program.js'
import { configIn } from './resume.js'

/** A run whose one step takes far longer than the test waits. */
const longRun = (t: ExecutionContext): { folder: string; words: string[] } => {
  const folder = folderOf(t)
  const size = { hidden_size: 512, intermediate_size: 1536, num_hidden_layers: 6, num_attention_heads: 8 }
  const model = writeRandomModel(join(folder, 'model'), { ...size, vocab_size: 128 })
  writeTokenizer(model)
  const data = join(folder, 'rows.json')
  const row = { instruction: 'a'.repeat(300), input: '', output: 'b'.repeat(100) }
  writeFileSync(data, JSON.stringify(Array(256).fill(row)))
  const words = ['train', '--model_name_or_path', model, '--data_path', data, '--lora', '--max_steps', '1']
  const batches = ['--per_device_train_batch_size', '4', '--gradient_accumulation_steps', '64']
  return { folder, words: [...words, ...batches, '--output_dir', join(folder, 'new', 'out')] }
}

/** Waits until `said` matches, which the test's own limit bounds. */
const until = async (said: () => string, what: RegExp): Promise<void> => {
  while (!what.test(said())) await new Promise((resolve) => setTimeout(resolve, 20))
}

for (const [name, status] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  test.serial(`${name} in a step ends with ${status}, soon and with nothing left`, async (t) => {
    const { folder, words } = longRun(t)
    const { child, ended, said } = start(words)
    await until(said, /^Training on 256 rows/m)
    const asked = performance.now()
    child.kill(name)
    const { status: ends, stdout, stderr } = await ended
    t.true(performance.now() - asked < 5000)
    t.is(ends, status)
    t.regex(stdout, /^Interrupted after 0 of 1 steps; nothing was saved$/m)
    t.regex(stderr, /a second signal ends at once/)
    t.regex(stderr, /error: interrupted\nhint: [^\n]+\n$/)
    t.deepEqual(readdirSync(folder).sort(), ['model', 'rows.json'])
  })
}

test.serial('a second signal ends at once', async (t) => {
  const { folder, words } = longRun(t)
  const { child, ended, said } = start(words)
  await until(said, /^Training on 256 rows/m)
  child.kill('SIGINT')
  child.kill('SIGTERM')
  const { status } = await ended
  t.true(status === 130 || status === 143, String(status))
  t.false(existsSync(join(folder, 'new', 'out', 'adapter_model.safetensors')))
})

/** A run of many short steps, which says each of them. */
const shortSteps = (t: ExecutionContext): { output: string; words: string[] } => {
  const folder = folderOf(t)
  const { output_dir: output, ...config } = configIn(folder, { max_steps: 400 })
  const file = join(folder, 'run.json')
  writeFileSync(file, JSON.stringify({ ...config, save_strategy: 'no', logging_steps: 1 }))
  return { output, words: ['train', file, '--output_dir', output] }
}

for (const [name, status] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  test.serial(`${name} between steps saves the last whole one, and says how to go on from it`, async (t) => {
    const { output, words } = shortSteps(t)
    const first = start(words)
    await until(first.said, /'epoch'[^\n]*\n.*'epoch'/s)
    first.child.kill(name)
    const interrupted = await first.ended
    t.is(interrupted.status, status)
    const [, step, path = ''] =
      /^Interrupted after (\d+) of 400 steps; the last whole one is in (.*)$/m.exec(interrupted.stdout) ?? []
    t.is(path, join(output, `checkpoint-${step}`))
    const others = ['loss.png', 'loss.svg', 'report.html']
    t.deepEqual(readdirSync(output).sort(), [`checkpoint-${step}`, ...others])
    t.true(
      interrupted.stderr.endsWith(
        `error: interrupted\nhint: Start the command again with --resume_from_checkpoint ${path} to go on from there.\n`,
      ),
    )

    const second = start([...words, '--resume_from_checkpoint', path])
    await until(second.said, /^Resumed from .*: \d+ steps? (is|are) done\n.*'epoch'/ms)
    const lines = (text: string): string[] => text.split('\n').filter((line) => line.startsWith("{'loss'"))
    second.child.kill('SIGKILL')
    await second.ended
    t.is(
      lines(interrupted.stdout).length,
      Number(step),
      'a line for each step that is saved, and for no other',
    )
  })
}

test.serial(
  'a second signal ends at once while the first one saves, and nothing half-written is taken',
  async (t) => {
    const { output, words } = shortSteps(t)
    const { child, ended, said } = start(words)
    await until(said, /'epoch'/)
    child.kill('SIGINT')
    child.kill('SIGTERM')
    const { status } = await ended
    t.true(status === 130 || status === 143, String(status))
    const whole = existsSync(output) ? (await checkpointsIn(output)).map(({ path }) => path) : []
    for (const path of whole) await t.notThrowsAsync(readCheckpoint(path))
  },
)
