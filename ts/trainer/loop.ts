// The training loop, visible in one function: batch → step → events. Prints nothing and writes no file: when a
// checkpoint is due it asks for one.

import type { Config } from '../config/index.js'
import { gather, type Padding, stepsOf } from '../data/batches.js'
import type { TokenRows } from '../data/encode.js'
import { shuffled } from '../data/order.js'
import type { Session, StepReport } from '../native/contract.js'
import { unwrap } from '../native/errors.js'
import { throwIfCancelled } from './cancel.js'
import { evaluate } from './evaluate.js'
import type { StepEvent, TrainEvent, TrainLog } from './events.js'
import {
  epochAfter,
  intervalOf,
  learningRateAt,
  type RunLength,
  runLength,
  type Schedule,
  warmupStepsOf,
} from './schedule.js'
import type { LogLine } from './state.js'

/** Order of the rows in an epoch: by the seed, or as they were given. */
export type RowOrder = 'shuffled' | 'as given'

/** What a run has come to. The loop writes it; whoever interrupts the loop finds the last whole step here. */
export interface Progress {
  step: number
  totalSteps: number
  epoch: number
  tokens: number
  /** Of the losses of all steps, and of those since the last line of the log. */
  lossSum: number
  lossSumSinceLog: number
  stepsSinceLog: number
  /** Whether an evaluation was due after `step` and has not come to its end. */
  evaluationPending: boolean
  /** Time in the loop, with that of the runs that this one goes on from. */
  elapsedMs: number
  log_history: LogLine[]
}

/** Nothing is done yet. */
export const progressAt = (totalSteps: number): Progress => ({
  step: 0,
  totalSteps,
  epoch: 0,
  tokens: 0,
  lossSum: 0,
  lossSumSinceLog: 0,
  stepsSinceLog: 0,
  evaluationPending: false,
  elapsedMs: 0,
  log_history: [],
})

export interface LoopInput {
  session: Pick<Session, 'step' | 'evaluate'>
  config: Config
  train: TokenRows
  /** null: none. */
  evaluation: TokenRows | null
  order: RowOrder
  padding: Padding
  /** Where the run is: a resumed one goes on from there. */
  progress: Progress
  /** Writes a checkpoint of `progress`. */
  checkpoint: (progress: Progress) => AsyncGenerator<TrainEvent>
  signal: AbortSignal | undefined
}

/** Trains until the schedule's end; yields each step, log and evaluation, and returns the closing line of the log. */
export async function* trainLoop(input: LoopInput): AsyncGenerator<TrainEvent, TrainLog> {
  const { session, config, train, order, padding, progress, signal } = input
  const length = runLength(train.usable.length, config)
  const schedule = scheduleOf(config, length)
  const accumulation = config.gradient_accumulation_steps
  const microBatchRows = config.per_device_train_batch_size
  progress.totalSteps = length.totalSteps
  yield startEvent(config, length, schedule, train.usable.length)

  if (config.eval_on_start && progress.step === 0) yield* evaluated(input)
  const started = performance.now() - progress.elapsedMs
  if (progress.evaluationPending) yield* evaluated(input)
  let stepsInEpoch = progress.step % length.stepsPerEpoch
  for (
    let epoch = Math.floor(progress.step / length.stepsPerEpoch);
    progress.step < length.totalSteps;
    epoch++
  ) {
    const rows =
      order === 'shuffled' ? shuffled(train.usable, config.data_seed ?? config.seed, epoch) : train.usable
    const left = rows.subarray(stepsInEpoch * accumulation * microBatchRows)
    for (const microBatches of stepsOf(left, { microBatchRows, gradientAccumulationSteps: accumulation })) {
      if (progress.step === length.totalSteps) break
      throwIfCancelled(signal)
      const learningRate = learningRateAt(schedule, progress.step)
      const report = unwrap(await session.step(gather(train, microBatches, padding), learningRate))

      stepsInEpoch += 1
      progress.step += 1
      progress.epoch = epochAfter(epoch, stepsInEpoch, accumulation, length.microBatchesPerEpoch)
      progress.tokens += report.tokens
      progress.lossSum += report.loss
      progress.lossSumSinceLog += report.loss
      progress.stepsSinceLog += 1
      progress.elapsedMs = performance.now() - started

      const at = {
        step: progress.step,
        totalSteps: length.totalSteps,
        epochEnds: stepsInEpoch === length.stepsPerEpoch,
      }
      progress.evaluationPending = input.evaluation !== null && evaluationIsDue(config, at)
      // From here on whoever interrupts finds a whole step, and whether it is still to be evaluated.
      yield stepEvent(progress, report, learningRate)
      if (logIsDue(config, at)) {
        const log = {
          loss: progress.lossSumSinceLog / progress.stepsSinceLog,
          grad_norm: report.gradNorm,
          learning_rate: learningRate,
          epoch: progress.epoch,
          step: progress.step,
        }
        progress.lossSumSinceLog = 0
        progress.stepsSinceLog = 0
        progress.log_history.push(log)
        yield { type: 'log', log }
      }
      if (progress.evaluationPending) yield* evaluated(input)
      progress.elapsedMs = performance.now() - started
      if (saveIsDue(config, at)) yield* input.checkpoint(progress)
    }
    stepsInEpoch = 0
  }
  progress.elapsedMs = performance.now() - started
  return closingLine(config, train.usable.length, progress)
}

const scheduleOf = (config: Config, { totalSteps }: RunLength): Schedule => ({
  type: config.lr_scheduler_type,
  learningRate: config.learning_rate,
  warmupSteps: warmupStepsOf(totalSteps, config),
  totalSteps,
})

const startEvent = (
  config: Config,
  length: RunLength,
  schedule: Schedule,
  trainRows: number,
): TrainEvent => ({
  type: 'start',
  totalSteps: length.totalSteps,
  stepsPerEpoch: length.stepsPerEpoch,
  epochs: length.epochs,
  warmupSteps: schedule.warmupSteps,
  microBatchRows: config.per_device_train_batch_size,
  gradientAccumulationSteps: config.gradient_accumulation_steps,
  trainRows,
})

const stepEvent = (
  { step, totalSteps, epoch, elapsedMs }: Progress,
  report: StepReport,
  learningRate: number,
): StepEvent => ({
  type: 'step',
  step,
  totalSteps,
  epoch,
  loss: report.loss,
  gradNorm: report.gradNorm,
  learningRate,
  tokens: report.tokens,
  supervisedTokens: report.supervisedTokens,
  stepMs: report.ms,
  tokensPerSecond: report.ms > 0 ? report.tokens / (report.ms / 1000) : 0,
  elapsedMs,
  leftMs: (elapsedMs / step) * (totalSteps - step),
})

/** Where in a run a decision is made. */
interface Moment {
  step: number
  totalSteps: number
  epochEnds: boolean
}

/** Transformers counts an epoch that `max_steps` cuts short as ended. */
const epochIsOver = ({ step, totalSteps, epochEnds }: Moment): boolean => epochEnds || step === totalSteps

const logIsDue = (config: Config, at: Moment): boolean => {
  if (at.step === 1 && config.logging_first_step) return true
  if (config.logging_strategy === 'epoch') return epochIsOver(at)
  return (
    config.logging_strategy === 'steps' && at.step % intervalOf(at.totalSteps, config.logging_steps) === 0
  )
}

/** By steps an evaluation also comes at the end, as in Transformers. */
const evaluationIsDue = (config: Config, at: Moment): boolean => {
  if (config.eval_strategy === 'epoch') return epochIsOver(at)
  if (config.eval_strategy === 'no') return false
  const interval = intervalOf(at.totalSteps, config.eval_steps ?? config.logging_steps)
  return at.step % interval === 0 || at.step === at.totalSteps
}

/** By steps a checkpoint also comes at the end, as in Transformers. */
const saveIsDue = (config: Config, at: Moment): boolean => {
  if (config.save_strategy === 'epoch') return epochIsOver(at)
  if (config.save_strategy === 'no') return false
  return at.step % intervalOf(at.totalSteps, config.save_steps) === 0 || at.step === at.totalSteps
}

async function* evaluated(input: LoopInput): AsyncGenerator<TrainEvent> {
  const { session, config, evaluation, padding, progress, signal } = input
  if (evaluation === null) return
  const batchRows = config.per_device_eval_batch_size
  const { step, epoch } = progress
  const log = yield* evaluate({ session, rows: evaluation, batchRows, padding, step, epoch, signal })
  progress.log_history.push(log)
  progress.evaluationPending = false
}

/** The rows of a run are counted as Transformers counts them: whole schedule, full batches under `max_steps`. */
const closingLine = (
  config: Config,
  trainRows: number,
  { step, epoch, lossSum, elapsedMs }: Progress,
): TrainLog => {
  const runtime = elapsedMs / 1000
  const stepRows = config.per_device_train_batch_size * config.gradient_accumulation_steps
  const rows = config.max_steps > 0 ? step * stepRows : trainRows * config.num_train_epochs
  return {
    train_runtime: runtime,
    train_samples_per_second: rows / runtime,
    train_steps_per_second: step / runtime,
    train_loss: lossSum / step,
    epoch,
    step,
  }
}
