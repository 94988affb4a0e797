// The words of `npm run bench -- [NAME…] [--json]`. Runs nothing.

import { LoraTrainError } from '../ts/native/errors.js'

export interface Wanted<Benchmark> {
  benchmarks: Benchmark[]
  json: boolean
}

/**
 * The benchmarks that are named, in the order of `known`; where none is, all but those that want to be. Throws
 * `USAGE` for any other word.
 */
export const readWords = <Benchmark extends { name: string; onlyNamed?: true }>(
  words: readonly string[],
  known: readonly Benchmark[],
): Wanted<Benchmark> => {
  const names = words.filter((word) => word !== '--json')
  const unknown = names.find((name) => !known.some((benchmark) => benchmark.name === name))
  if (unknown !== undefined) {
    const what = unknown.startsWith('-') ? 'option' : 'benchmark'
    throw new LoraTrainError(
      'USAGE',
      `there is no ${what} ${unknown}`,
      `The benchmarks are ${known.map(({ name }) => name).join(', ')}; the one option is --json.`,
    )
  }
  const benchmarks = known.filter(({ name, onlyNamed }) =>
    names.length === 0 ? onlyNamed !== true : names.includes(name),
  )
  return { benchmarks, json: words.includes('--json') }
}
