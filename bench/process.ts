// Programs that a benchmark starts: their output is data, their failure is an error with their last words.

import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { LoraTrainError } from '../ts/native/errors.js'
import type { TrainingJob, TrainingResult } from './child/training.js'
import { root } from './places.js'

/** Returns what the program prints. Throws `INTERNAL` with the end of its stderr where it fails. */
export const outputOf = (
  command: string,
  words: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<string> =>
  new Promise((resolve, reject) => {
    const child = spawn(command, words, { cwd: root, env: { ...process.env, ...env } })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (bytes) => (stdout += bytes))
    child.stderr.on('data', (bytes) => (stderr += bytes))
    child.stdin.end()
    child.on('error', ({ message }) => reject(failed(command, message)))
    child.on('close', (status, signal) => {
      if (status === 0) resolve(stdout)
      else reject(failed(command, `${signal ?? `exit ${status}`}: ${lastLines(stderr, 4)}`))
    })
  })

const failed = (command: string, why: string): LoraTrainError =>
  new LoraTrainError('INTERNAL', `${command} failed: ${why}`, 'Run it alone to see all that it says.')

const lastLines = (text: string, count: number): string => text.trimEnd().split('\n').slice(-count).join('\n')

/** A program that answers each line with a line, so that several can take turns. */
export interface Answering {
  /** Throws `INTERNAL` with the end of its stderr where the program is gone. */
  ask(line: string): Promise<string>
  end(): void
}

export const answering = (
  command: string,
  words: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Answering => {
  const child = spawn(command, words, { cwd: root, env: { ...process.env, ...env } })
  let stderr = ''
  child.stderr.on('data', (bytes) => (stderr += bytes))
  child.on('error', ({ message }) => (stderr += message))
  const closed = new Promise((resolve) => child.on('close', resolve))
  // A program that is gone takes no line; that it gives none either says so below.
  child.stdin.on('error', () => {})
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return {
    ask: async (line) => {
      child.stdin.write(`${line}\n`)
      const { value, done } = await answers.next()
      if (done !== true) return value
      await closed
      throw failed(command, lastLines(stderr, 4))
    },
    end: () => child.stdin.end(),
  }
}

/**
 * For programs of PyTorch: freed memory stays with the process, so that a new tensor has pages already, as our outputs
 * have.
 */
export const keepsMemory = { MALLOC_MMAP_MAX_: '0', MALLOC_TRIM_THRESHOLD_: String(2 ** 40) }

/** The objects of a text that has one JSON object a line. */
export const jsonLines = <T>(text: string): T[] =>
  text
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as T)

/** Where bundles of `bench/child` lie: as deep as `ts/native`, beside which they look for the addon. */
const bundles = join('target', 'bench')

const bundling = new Map<string, Promise<string>>()

/** Bundles a file of `bench/child` as the installed program is, once; returns the path of the bundle. */
const bundleOf = (name: string): Promise<string> => {
  const bundle = async (): Promise<string> => {
    const source = join('bench', 'child', `${name}.ts`)
    await outputOf(process.execPath, [join('scripts', 'bundle.mjs'), source, bundles])
    return join(root, bundles, `${name}.js`)
  }
  const begun = bundling.get(name) ?? bundle()
  bundling.set(name, begun)
  return begun
}

/** Runs a file of `bench/child` and returns the one object that it prints. */
export const runChild = async <T>(
  name: string,
  words: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<T> => {
  const program = await bundleOf(name)
  const [result] = jsonLines<T>(await outputOf(process.execPath, [program, ...words], env))
  if (result === undefined) throw failed(program, 'it printed no result')
  return result
}

/** Trains in a process of its own and returns what it measured. */
export const measureTraining = (job: TrainingJob): Promise<TrainingResult> =>
  runChild('training', [JSON.stringify(job)])
