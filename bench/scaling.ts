// `scaling`: tokens/s of QLoRA on SmolLM2 over sequence lengths, ranks and threads, beside what three points predict.
//
//   seconds a token = a + b · length + c · rank
//
// a, b and c go through the shortest length, the longest and the highest rank; all else is predicted.

import type { TrainingResult } from './child/training.js'
import { type Benchmark, figure, type Line, type World } from './figure.js'
import { noSmollm2, smollm2 } from './places.js'
import { measureTraining } from './process.js'
import { loraConfig, quantization } from './train.js'
import { tokensPerSecond } from './training_lines.js'

/** Of a step where the length allows: four seconds of two cores. Longer ones take one sequence. */
const tokensPerStep = 2048
const [shortest, longest] = [128, 8192]
const lengths = [shortest, 256, 512, 1024, 2048, 4096, longest]
const highestRank = 256
const ranks = [4, 16, 64, highestRank]
/** The length at which ranks and threads are varied, and the rank at which lengths are. */
const fixed = { length: 512, rank: 16 }
/** What two threads are to reach beside one. */
const threadsTarget = 1.8

export interface Setting {
  length: number
  rank: number
}

/** Sequences of a step. */
const rowsOf = (length: number): number => Math.max(1, tokensPerStep / length)

/** `4x512 r 16` */
const nameOf = ({ length, rank }: Setting): string => `${rowsOf(length)}x${length} r ${rank}`

/** The first of two steps warms up; one that takes over ten seconds needs none, and has none. */
const stepsOf = ({ length }: Setting): number => (length > tokensPerStep ? 1 : 2)
/** Steps of which the best counts, after one, where one ratio is asked for: the machine's moments differ by 3 %. */
const stepsForThreads = 5

/** NF4, computed in bf16, every block recomputed: no length needs more memory than another. */
const measure = (
  model: string,
  setting: Setting,
  { threads, steps = stepsOf(setting) }: { threads?: number; steps?: number } = {},
): Promise<TrainingResult> => {
  const { length, rank } = setting
  const { lora, ...shared } = loraConfig(model, 'bf16')
  const config = {
    ...shared,
    ...(threads === undefined ? {} : { threads }),
    quantization,
    lora: { ...lora, r: rank, lora_alpha: 2 * rank },
    gradient_checkpointing: true,
    model_max_length: length,
    per_device_train_batch_size: rowsOf(length),
  }
  return measureTraining({ config, steps, data: { kind: 'random' } })
}

/** A measured setting. */
export interface Point extends Setting {
  secondsPerToken: number
}

/** Seconds of a token: what each costs, what a position of its sequence adds, what a rank of the adapters adds. */
export interface CostModel {
  a: number
  b: number
  c: number
}

/** The model through three points: two of one rank, and a third of another. Throws where they are no such points. */
export const fitted = (short: Point, long: Point, high: Point): CostModel => {
  const [positions, added] = [long.length - short.length, high.rank - short.rank]
  if (long.rank !== short.rank || positions === 0 || added === 0) {
    throw new RangeError('the model needs two lengths of one rank, and another rank')
  }
  const b = (long.secondsPerToken - short.secondsPerToken) / positions
  const withoutRank = short.secondsPerToken + b * (high.length - short.length)
  const c = (high.secondsPerToken - withoutRank) / added
  return { a: short.secondsPerToken - b * short.length - c * short.rank, b, c }
}

export const predictedSeconds = ({ a, b, c }: CostModel, { length, rank }: Setting): number =>
  a + b * length + c * rank

const line = (setting: Setting, result: TrainingResult, model: CostModel): Line => {
  const { best, spread } = tokensPerSecond(result)
  return figure({
    bench: 'scaling',
    case: nameOf(setting),
    value: best,
    unit: 'tokens/s',
    limit: 1 / predictedSeconds(model, setting),
    limitName: 'predicted',
    spread,
  })
}

/** How much two threads do while one does one thing. */
export const threadsLine = (one: TrainingResult, two: TrainingResult): Line => {
  const [single, both] = [tokensPerSecond(one), tokensPerSecond(two)]
  const value = both.best / single.best
  return figure({
    bench: 'scaling',
    case: `${nameOf(fixed)}, two threads`,
    value,
    unit: '×',
    limit: threadsTarget,
    limitName: 'one thread, target',
    fault: value >= threadsTarget ? null : 'misses the target',
  })
}

/** Lengths at one rank, then ranks at one length. */
const settings: readonly Setting[] = [
  ...lengths.map((length) => ({ length, rank: fixed.rank })),
  ...ranks.filter((rank) => rank !== fixed.rank).map((rank) => ({ length: fixed.length, rank })),
]

async function* run({ log }: World): AsyncGenerator<Line> {
  const bench = 'scaling'
  const model = smollm2()
  if (model === null) return yield { kind: 'skipped', bench, case: 'all', why: noSmollm2 }
  const measured: [Setting, TrainingResult][] = []
  for (const setting of settings) {
    log(`scaling: ${nameOf(setting)}`)
    measured.push([setting, await measure(model, setting)])
  }
  const pointAt = (length: number, rank: number): Point => {
    const found = measured.find(([setting]) => setting.length === length && setting.rank === rank)
    if (found === undefined) throw new RangeError(`${length} with rank ${rank} was not measured`)
    return { length, rank, secondsPerToken: 1 / tokensPerSecond(found[1]).best }
  }
  const ends = [pointAt(shortest, fixed.rank), pointAt(longest, fixed.rank)] as const
  const cost = fitted(...ends, pointAt(fixed.length, highestRank))
  for (const [setting, result] of measured) yield line(setting, result, cost)
  log('scaling: one thread, two threads')
  const withThreads = (threads: number) => measure(model, fixed, { threads, steps: stepsForThreads })
  yield threadsLine(await withThreads(1), await withThreads(2))
  const micro = (seconds: number): string => Number((1e6 * seconds).toPrecision(3)).toLocaleString('en-US')
  const text =
    'SmolLM2-135M in NF4, LoRA on all linears, computed in bf16, all blocks recomputed, all tokens supervised. Through ' +
    `${nameOf(ends[0])}, ${nameOf(ends[1])} and r ${highestRank}: a token takes ${micro(cost.a)} µs + ${micro(cost.b)} µs · length + ` +
    `${micro(cost.c)} µs · rank`
  yield { kind: 'note', bench, text }
}

export const scaling: Benchmark = {
  name: 'scaling',
  summary: 'tokens/s over lengths, ranks and threads beside what a cost of three numbers predicts',
  run,
}
