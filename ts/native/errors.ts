// The one place that turns an error into a throw, and its code into an exit status. Prints nothing, ends nothing.

import { match } from 'ts-pattern'
import type { Failed, NativeCode } from './contract.js'

/** The engine's codes, and those of TypeScript's own: a wrong command line, an addon that is not built. */
export type Code = NativeCode | 'USAGE' | 'NOT_BUILT'

/** What every failing call of the API throws. `code` is stable; `message` is not. */
export class LoraTrainError extends Error {
  override readonly name = 'LoraTrainError'
  constructor(
    readonly code: Code,
    message: string,
    readonly hint: string,
  ) {
    super(message)
  }
}

/** Returns the value, or throws what the engine reported. */
export const unwrap = <T extends object>(result: T | Failed): T => {
  if (!('error' in result)) return result
  const { code, message, hint } = result.error
  throw new LoraTrainError(code, message, hint)
}

/** Exit status of a failure; the table in the README is made from this. */
export const exitStatus = (code: Code): number =>
  match(code)
    .with('INTERNAL', 'NOT_BUILT', () => 1)
    .with('USAGE', 'CONFIG', () => 2)
    .with('DATA', () => 3)
    .with('MODEL_FILES', () => 4)
    .with('MEMORY', () => 5)
    .with('DEVICE', () => 6)
    .with('DIVERGED', () => 7)
    .with('OUTPUT', () => 8)
    .with('CANCELLED', () => 130)
    .exhaustive()
