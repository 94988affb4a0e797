// The real program, started as a person starts it, and what it printed.

import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const main = fileURLToPath(new URL('../../ts/cli/main.ts', import.meta.url))

export interface Ended {
  status: number | null
  stdout: string
  stderr: string
  wallMs: number
}

/** Starts the program with `words`. */
export const start = (
  words: readonly string[],
): { child: ChildProcess; ended: Promise<Ended>; said: () => string } => {
  const started = performance.now()
  const child = spawn(process.execPath, ['--import=tsx', main, ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  child.stdout?.on('data', (text) => (stdout += text))
  child.stderr?.on('data', (text) => (stderr += text))
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (status) => resolve({ status, stdout, stderr, wallMs: performance.now() - started }))
  })
  return { child, ended, said: () => stdout }
}

/** Runs the program to its end. */
export const program = (...words: string[]): Promise<Ended> => start(words).ended
