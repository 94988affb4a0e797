// `scaling`: tokens/s of LoRA on SmolLM2 over sequence lengths, threads and ranks, beside what two points predict.
//
//   seconds a token = α · (FLOPs of the weights' products) + β · (FLOPs of attention's products at that length)
//
// α and β are those of the shortest and the longest sequence; all else is predicted.

import type { TrainingResult } from './child/training.js'
import { type Benchmark, figure, type Line, type World } from './figure.js'
import { noSmollm2, smollm2 } from './places.js'
import { measureTraining } from './process.js'
import { loraConfig } from './train.js'
import { tokensPerSecond } from './training_lines.js'

/** The first one warms up. A step over lengths takes ten seconds, the others two. */
const steps = { lengths: 2, others: 4 }
/** Of a step, whatever the length; the longest sequence of the model is one. */
const tokensPerStep = 8192
const lengths = [128, 256, 512, 1024, 2048, 4096, 8192] as const
const ranks = [4, 16, 64, 256] as const
/** What two threads are to reach beside one. */
const threadsRatio = 1.8

interface Setting {
  length: number
  rank?: number
  threads?: number
  tokens?: number
}

/** bf16, every block recomputed: no length needs more memory than another. */
const measure = (
  model: string,
  { length, rank = 16, threads, tokens = tokensPerStep }: Setting,
): Promise<TrainingResult> => {
  const { lora, ...shared } = loraConfig(model, 'bf16')
  const config = {
    ...shared,
    ...(threads === undefined ? {} : { threads }),
    lora: { ...lora, r: rank, lora_alpha: 2 * rank },
    gradient_checkpointing: true,
    model_max_length: length,
    per_device_train_batch_size: tokens / length,
  }
  const count = tokens === tokensPerStep ? steps.lengths : steps.others
  return measureTraining({ config, steps: count, data: { kind: 'random' } })
}

/** A measured training: how long a token took, and how many FLOPs the plan counts for it. */
export interface Point {
  length: number
  secondsPerToken: number
  flopsPerToken: number
}

/** Seconds of a FLOP of the weights' products and of attention's, and attention's FLOPs for each position. */
export interface CostModel {
  alpha: number
  beta: number
  flopsPerPosition: number
}

/** The model that goes through two points of one rank. Throws where they have one length. */
export const fitted = (short: Point, long: Point): CostModel => {
  const positions = long.length - short.length
  if (positions === 0) throw new RangeError('two lengths are needed to tell attention from the rest')
  // The plan's count is linear in the length.
  const flopsPerPosition = (long.flopsPerToken - short.flopsPerToken) / positions
  const secondsPerPosition = (long.secondsPerToken - short.secondsPerToken) / positions
  const weights = short.flopsPerToken - flopsPerPosition * short.length
  return {
    alpha: (short.secondsPerToken - secondsPerPosition * short.length) / weights,
    beta: secondsPerPosition / flopsPerPosition,
    flopsPerPosition,
  }
}

export const predictedSeconds = (
  { alpha, beta, flopsPerPosition }: CostModel,
  { length, flopsPerToken }: Omit<Point, 'secondsPerToken'>,
): number => {
  const attention = flopsPerPosition * length
  return alpha * (flopsPerToken - attention) + beta * attention
}

const pointOf = (length: number, result: TrainingResult): Point => ({
  length,
  secondsPerToken: 1 / tokensPerSecond(result).best,
  flopsPerToken: result.flopsPerToken,
})

const line = (name: string, result: TrainingResult, length: number, model: CostModel): Line => {
  const { best, spread } = tokensPerSecond(result)
  const limit = 1 / predictedSeconds(model, pointOf(length, result))
  return figure({
    bench: 'scaling',
    case: name,
    value: best,
    unit: 'tokens/s',
    limit,
    limitName: 'predicted',
    spread,
  })
}

/** Two threads beside one. */
export const threadsLine = (one: TrainingResult, two: TrainingResult): Line => {
  const [single, both] = [tokensPerSecond(one), tokensPerSecond(two)]
  return figure({
    bench: 'scaling',
    case: '2 threads',
    value: both.best,
    unit: 'tokens/s',
    limit: 2 * single.best,
    limitName: '2 × one thread',
    spread: Math.max(single.spread ?? 0, both.spread ?? 0),
    fault: both.best >= threadsRatio * single.best ? null : `below ${threadsRatio} × one thread`,
  })
}

async function* run({ log }: World): AsyncGenerator<Line> {
  const bench = 'scaling'
  const model = smollm2()
  if (model === null) return yield { kind: 'skipped', bench, case: 'all', why: noSmollm2 }
  const results = new Map<number, TrainingResult>()
  for (const length of lengths) {
    log(`scaling: ${tokensPerStep / length}x${length}`)
    results.set(length, await measure(model, { length }))
  }
  const points = [...results].map(([length, result]) => pointOf(length, result))
  const [short, long] = [points[0], points.at(-1)]
  if (short === undefined || long === undefined) throw new RangeError('no length was measured')
  const cost = fitted(short, long)
  for (const [length, result] of results) {
    yield line(`${tokensPerStep / length}x${length}`, result, length, cost)
  }
  const fixed = { length: 512, tokens: 2048 }
  for (const rank of ranks) {
    log(`scaling: rank ${rank}`)
    yield line(`4x512 rank ${rank}`, await measure(model, { ...fixed, rank }), fixed.length, cost)
  }
  log('scaling: one thread, two threads')
  const one = await measure(model, { ...fixed, threads: 1 })
  yield threadsLine(one, await measure(model, { ...fixed, threads: 2 }))
  const speed = (secondsPerFlop: number): string => (1e-9 / secondsPerFlop).toFixed(0)
  const text =
    `SmolLM2-135M, LoRA r 16 on all linears, bf16, all blocks recomputed, all tokens supervised. Fitted to ${lengths[0]} and ` +
    `${lengths.at(-1)}: ${speed(cost.alpha)} GFLOP/s in the weights' products, ${speed(cost.beta)} in attention's`
  yield { kind: 'note', bench, text }
}

export const scaling: Benchmark = {
  name: 'scaling',
  summary: 'tokens/s over lengths, ranks and threads beside what the FLOPs predict',
  run,
}
