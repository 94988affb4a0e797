// How long it takes from the command to a run's first step, of the program as it is installed: compiled, without tsx.

import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { ConfigInput } from '../ts/config/index.js'
import { LoraTrainError } from '../ts/native/errors.js'
import { root } from './places.js'
import { outputOf } from './process.js'

/** Compiles `ts` into `dist`. */
export const buildProgram = async (): Promise<void> => {
  await outputOf('npm', ['run', '--silent', 'build:ts'])
}

/**
 * Starts a training and ends it where its first step begins; returns the seconds until then. All rows of `data_path` are
 * read and tokenised in that time. Throws `INTERNAL` where it ends before.
 */
export const secondsToFirstStep = async (config: ConfigInput): Promise<number> => {
  const folder = mkdtempSync(join(tmpdir(), 'lora-train-start-'))
  const file = join(folder, 'config.json')
  writeFileSync(file, JSON.stringify({ ...config, output_dir: join(folder, 'out') }))
  const started = performance.now()
  const words = [join(root, 'dist', 'cli', 'main.js'), 'train', file, '--json']
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = new Promise((resolve) => child.on('close', resolve))
  let stderr = ''
  child.stderr.on('data', (bytes) => (stderr += bytes))
  try {
    for await (const line of createInterface({ input: child.stdout })) {
      if ((JSON.parse(line) as { type: string }).type === 'start') return (performance.now() - started) / 1000
    }
    throw new LoraTrainError('INTERNAL', `the training ended before its first step: ${stderr}`, '')
  } finally {
    child.kill('SIGKILL')
    await ended
    rmSync(folder, { recursive: true, force: true })
  }
}
