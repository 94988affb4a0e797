// Loads the addon. The only file that knows where it lies; says how to build it where it is missing.

import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Native } from './contract.js'
import { LoraTrainError } from './errors.js'

export type * from './contract.js'
export { type Code, exitStatus, LoraTrainError, unwrap } from './errors.js'

// From ts/native the generated file lies beside this one; from dist/native it stays in the source tree.
const places = ['./native.js', '../../ts/native/native.js']

let loading: Promise<Native> | undefined

/**
 * Returns the addon, loaded once.
 *
 * Throws `NOT_BUILT` where it is missing or does not load.
 */
export const native = (): Promise<Native> => {
  loading ??= load()
  return loading
}

const load = async (): Promise<Native> => {
  // For the addon's allocator: what was freed goes back at once, not a second later. A tokenizer frees 30 MB that a
  // training would hold else; its own steps keep their buffers.
  process.env.MIMALLOC_PURGE_DELAY ??= '0'
  const file = places.map((place) => new URL(place, import.meta.url)).find((url) => existsSync(url))
  if (file === undefined) {
    throw new LoraTrainError(
      'NOT_BUILT',
      'the native addon is not built',
      'Run `npm run build:native` in the repository; it needs Rust (https://rustup.rs).',
    )
  }
  try {
    return (await import(file.href)) as Native
  } catch (cause) {
    const why = cause instanceof Error ? cause.message.split('\n')[0] : String(cause)
    throw new LoraTrainError(
      'NOT_BUILT',
      `${fileURLToPath(file)} does not load: ${why}`,
      'Run `npm run build:native` again; the addon is built for one platform and one version of the source.',
    )
  }
}
