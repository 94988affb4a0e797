// What a benchmark yields: figures beside their limits, what was left out, and notes. Measures and prints nothing.

import type { Native } from '../ts/native/contract.js'

/** One measured value, and what it could be at most (or, for memory, what the plan says) in the same run. */
export interface Figure {
  kind: 'figure'
  bench: string
  case: string
  value: number
  unit: Unit
  limit: number
  limitName: string
  /** `value / limit`. */
  ratio: number
  /** How much longer the median of the repetitions took than the best of them; null where nothing is repeated. */
  spread: number | null
  noisy: boolean
  /** What is wrong with it, in a few words; null where nothing is. */
  fault: string | null
}

/** A case that did not run, and why. */
export interface Skipped {
  kind: 'skipped'
  bench: string
  case: string
  why: string
}

/** A sentence that belongs to the figures. */
export interface Note {
  kind: 'note'
  bench: string
  text: string
}

export type Line = Figure | Skipped | Note

export type Unit =
  | 'GFLOP/s'
  | 'M params/s'
  | 'M values/s'
  | 'GB/s'
  | 'tokens/s'
  | 'rows/s'
  | 'bytes'
  | 's'
  | '×'
  | 'nats'
  | 'texts'
  | 'weights'
  | 'scalars'
  | 'rows'

/** What a benchmark is given. `log` tells people what runs; it is no result. */
export interface World {
  engine: Native
  log(text: string): void
}

export interface Benchmark {
  name: string
  summary: string
  /** It takes long, or writes what is committed: it runs only where it is named. */
  onlyNamed?: true
  run(world: World): AsyncIterable<Line>
}

/** A median that is this much slower than the best: something else runs on the machine. */
export const noisyFrom = 0.1

/** Best and spread of repeated times, in their unit. Throws where there is none. */
export const repeated = (times: readonly number[]): { best: number; spread: number | null } => {
  const sorted = [...times].sort((a, b) => a - b)
  const best = sorted[0]
  const median = sorted[Math.floor(sorted.length / 2)]
  if (best === undefined || median === undefined) throw new RangeError('no repetition was measured')
  return { best, spread: sorted.length > 1 ? median / best - 1 : null }
}

/** Fills in what follows from the rest. */
export const figure = (
  given: Pick<Figure, 'bench' | 'case' | 'value' | 'unit' | 'limit' | 'limitName'> &
    Partial<Pick<Figure, 'spread' | 'fault'>>,
): Figure => {
  const { spread = null, fault = null } = given
  return {
    kind: 'figure',
    ...given,
    ratio: given.value / given.limit,
    spread,
    noisy: spread !== null && spread > noisyFrom,
    fault,
  }
}
