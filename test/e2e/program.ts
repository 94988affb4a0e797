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

/** Where the program is started: paths in its words are relative to `cwd`. */
export interface Where {
  cwd?: string
  /** Beside the variables of the test itself. */
  env?: Record<string, string>
}

/** Starts the program with `words`. */
export const start = (
  words: readonly string[],
  { cwd, env }: Where = {},
): { child: ChildProcess; ended: Promise<Ended>; said: () => string } => {
  const started = performance.now()
  const child = spawn(process.execPath, [`--import=${import.meta.resolve('tsx')}`, main, ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd,
    env: { ...process.env, ...env },
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
