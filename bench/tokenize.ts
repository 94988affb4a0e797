// `tokenize`: rows/s and tokens/s of the German rows on all threads, beside as many times one thread's speed.

import type { TokenizingResult } from './child/tokenizing.js'
import { type Benchmark, figure, type Line, repeated, type World } from './figure.js'
import { examine } from './machine.js'
import { germanRows, noShared, noSmollm2, smollm2 } from './places.js'
import { runChild } from './process.js'

const repetitions = 5

/** `one`: on one thread; the limit is `threads` times that. */
export const tokenizeLines = (all: TokenizingResult, one: TokenizingResult, threads: number): Line[] => {
  const { best, spread } = repeated(all.seconds)
  const single = repeated(one.seconds).best
  return (['rows', 'tokens'] as const).map((unit) =>
    figure({
      bench: 'tokenize',
      case: `${all.rows} german rows, ${unit}`,
      value: all[unit] / best,
      unit: `${unit}/s`,
      limit: (threads * one[unit]) / single,
      limitName: `${threads} × one thread`,
      spread,
    }),
  )
}

async function* run({ engine, log }: World): AsyncGenerator<Line> {
  const bench = 'tokenize'
  const [model, rows] = [smollm2(), germanRows()]
  if (model === null || rows === null) {
    return yield { kind: 'skipped', bench, case: 'german rows', why: rows === null ? noShared : noSmollm2 }
  }
  const { threads } = await examine(engine)
  const words = [model, rows, String(repetitions)]
  log('tokenize: one thread')
  const one = await runChild<TokenizingResult>('tokenizing', words, { RAYON_NUM_THREADS: '1' })
  log(`tokenize: ${threads} threads`)
  const all = await runChild<TokenizingResult>('tokenizing', words)
  yield* tokenizeLines(all, one, threads)
}

export const tokenize: Benchmark = {
  name: 'tokenize',
  summary: 'rows/s and tokens/s of tokenising the German rows, beside as many times one thread',
  run,
}
