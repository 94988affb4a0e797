// A training run for programs: each event as one JSON object on a line of its own, unrounded.

import type { Output } from './progress.js'
import type { Report } from './text.js'

/** A report that writes JSON Lines. */
export const jsonReport =
  (output: Output): Report =>
  (event) => {
    output.write(`${JSON.stringify(event)}\n`)
  }
