// How long a run is and which learning rate each step takes: the arithmetic of Transformers' Trainer, to the bit.
//
//   steps per epoch = ceil(micro-batches / accumulation)         T = max_steps, or ceil(epochs · steps per epoch)
//   W = warmup_steps, or ceil(T · warmup_steps) where it is below 1
//   factor(k) = k/W for k < W; then (T−k)/(T−W), ½·(1 + cos(π·((k−W)/(T−W)))), or 1;   k: steps done before
//   learning rate = base · factor: the factor first, so that the values are equal, not close
//
// Pure functions; knows neither rows nor events.

import { match } from 'ts-pattern'
import type { Config } from '../config/index.js'

export type SchedulerType = Config['lr_scheduler_type']

/** How long a run is. */
export interface RunLength {
  microBatchesPerEpoch: number
  stepsPerEpoch: number
  totalSteps: number
  /** Epochs begun: the last one may end early. */
  epochs: number
}

export interface Schedule {
  type: SchedulerType
  /** The highest rate. */
  learningRate: number
  warmupSteps: number
  totalSteps: number
}

type LengthOptions = Pick<
  Config,
  'num_train_epochs' | 'max_steps' | 'per_device_train_batch_size' | 'gradient_accumulation_steps'
>

/** The length of a run over `trainRows` rows (at least one). */
export const runLength = (trainRows: number, options: LengthOptions): RunLength => {
  const microBatchesPerEpoch = Math.ceil(trainRows / options.per_device_train_batch_size)
  const stepsPerEpoch = Math.ceil(microBatchesPerEpoch / options.gradient_accumulation_steps)
  const byEpochs = options.max_steps <= 0
  const totalSteps = byEpochs ? Math.ceil(options.num_train_epochs * stepsPerEpoch) : options.max_steps
  const epochs = byEpochs ? Math.ceil(options.num_train_epochs) : Math.ceil(totalSteps / stepsPerEpoch)
  return { microBatchesPerEpoch, stepsPerEpoch, totalSteps, epochs }
}

/** Steps of warm-up: `warmup_steps` where it is above 0 (below 1: a share of all steps), else `warmup_ratio`. */
export const warmupStepsOf = (
  totalSteps: number,
  { warmup_steps, warmup_ratio }: Pick<Config, 'warmup_steps' | 'warmup_ratio'>,
): number => {
  if (warmup_steps >= 1) return Math.floor(warmup_steps)
  return Math.ceil(totalSteps * (warmup_steps > 0 ? warmup_steps : (warmup_ratio ?? 0)))
}

/** Steps between logs or evaluations: a count, or a share of all steps where it is below 1. */
export const intervalOf = (totalSteps: number, interval: number): number =>
  interval < 1 ? Math.ceil(totalSteps * interval) : interval

/** Epochs gone after `stepsInEpoch` steps of epoch `epoch` (from 0). The fraction counts micro-batches. */
export const epochAfter = (
  epoch: number,
  stepsInEpoch: number,
  gradientAccumulationSteps: number,
  microBatchesPerEpoch: number,
): number => {
  const done = Math.min(stepsInEpoch * gradientAccumulationSteps, microBatchesPerEpoch)
  return epoch + done / microBatchesPerEpoch
}

/** The learning rate of the step before which `stepsDone` steps were done. */
export const learningRateAt = (schedule: Schedule, stepsDone: number): number =>
  schedule.learningRate * factorAt(schedule, stepsDone)

const factorAt = ({ type, warmupSteps, totalSteps }: Schedule, stepsDone: number): number => {
  // `constant` has no warm-up in Transformers, whatever warmup_steps says.
  if (type !== 'constant' && stepsDone < warmupSteps) return stepsDone / warmupSteps
  const decaySteps = Math.max(1, totalSteps - warmupSteps)
  return match(type)
    .with('linear', () => Math.max(0, (totalSteps - stepsDone) / decaySteps))
    .with('cosine', () =>
      Math.max(0, 0.5 * (1 + cosine(Math.PI * Math.min(1, (stepsDone - warmupSteps) / decaySteps)))),
    )
    .with('constant', 'constant_with_warmup', () => 1)
    .exhaustive()
}

/** Bits after the point: the sum's error stays far below a double's half unit in the last place. */
const fractionBits = 160

/**
 * cos(x), correctly rounded, for 0 ≤ x ≤ π.
 *
 * `Math.cos` of V8 is off by a unit in the last place at 3 % of the steps of a cosine schedule where Python's is
 * not, which shows in the log near the end, where 1 + cos cancels. The Taylor series in fixed point has no such
 * error: a double in this range is a whole number of 2⁻¹⁶⁰ (checked down to x = 2⁻¹⁰⁷).
 */
const cosine = (x: number): number => {
  const shift = BigInt(fractionBits)
  const fixed = BigInt(x * 2 ** fractionBits)
  const squared = (fixed * fixed) >> shift
  let term = 1n << shift
  let sum = term
  for (let k = 1n; term !== 0n; k += 2n) {
    // Division, unlike >>, rounds towards zero, so the terms do reach zero.
    term = (-term * squared) / (1n << shift) / (k * (k + 1n))
    sum += term
  }
  return Number(sum) / 2 ** fractionBits
}
