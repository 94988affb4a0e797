// A world for the tests of the command line: output is kept, the engine is given.

import { run } from '../../ts/cli/run.js'
import type { Native } from '../../ts/native/contract.js'
import { LoraTrainError } from '../../ts/native/errors.js'

/** Runs one command line and returns its exit status and what it printed. */
export const runWords = async (
  words: readonly string[],
  engine?: Partial<Native>,
  signal: AbortSignal = new AbortController().signal,
): Promise<{ status: number; stdout: string; stderr: string }> => {
  let stdout = ''
  let stderr = ''
  const status = await run(words, {
    stdout: { write: (text) => (stdout += text) },
    stderr: { write: (text) => (stderr += text) },
    env: {},
    engine: async () => {
      if (engine === undefined)
        throw new LoraTrainError('NOT_BUILT', 'the native addon is not built', 'Build it.')
      return engine as Native
    },
    interruptible: () => signal,
  })
  return { status, stdout, stderr }
}

/** The last lines of a text. */
export const lastLines = (text: string, count: number): string[] => text.trimEnd().split('\n').slice(-count)
