// What the tests of the config share.

import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { z } from 'zod'
import { type Resolved, resolveWords } from '../../ts/config/index.js'
import { LoraTrainError } from '../../ts/native/errors.js'

const none = z.strictObject({})

/** The config of a command line. */
export const resolve = (...words: string[]): Resolved => resolveWords(words, none)

/** Writes a file into a folder of its own. */
export const fileOf = (name: string, text: string | Uint8Array): string => {
  const path = join(mkdtempSync(join(tmpdir(), 'lora-train-config-')), name)
  writeFileSync(path, text)
  return path
}

/** The error that `act` throws. */
export const failure = (t: ExecutionContext, act: () => unknown): LoraTrainError => {
  const error = t.throws(act)
  if (!(error instanceof LoraTrainError)) throw error
  return error
}

/** The words of a command line as a shell reads them: quotes hold words together, and are gone. */
export const shellWords = (text: string): string[] =>
  [...text.matchAll(/"((?:\\["\\]|[^"])*)"|'([^']*)'|[^\s"']+/g)].map(([word, double, single]) =>
    double !== undefined ? double.replace(/\\(["\\])/g, '$1') : (single ?? word),
  )
