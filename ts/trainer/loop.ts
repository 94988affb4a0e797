// The training loop, visible in one function: batch → step → events. Prints nothing and writes no file.

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
  log_history: LogLine[]
}

export interface LoopInput {
  session: Pick<Session, 'step' | 'evaluate'>
  config: Config
  train: TokenRows
  /** null: none. */
  evaluation: TokenRows | null
  order: RowOrder
  padding: Padding
  progress: Progress
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

  if (config.eval_on_start) yield* evaluated(input)
  const started = performance.now()
  let lossSum = 0
  let lossSumSinceLog = 0
  let stepsSinceLog = 0
  for (let epoch = 0; progress.step < length.totalSteps; epoch++) {
    const rows =
      order === 'shuffled' ? shuffled(train.usable, config.data_seed ?? config.seed, epoch) : train.usable
    let stepsInEpoch = 0
    for (const microBatches of stepsOf(rows, { microBatchRows, gradientAccumulationSteps: accumulation })) {
      if (progress.step === length.totalSteps) break
      throwIfCancelled(signal)
      const learningRate = learningRateAt(schedule, progress.step)
      const report = unwrap(await session.step(gather(train, microBatches, padding), learningRate))

      stepsInEpoch += 1
      progress.step += 1
      progress.epoch = epochAfter(epoch, stepsInEpoch, accumulation, length.microBatchesPerEpoch)
      progress.tokens += report.tokens
      lossSum += report.loss
      lossSumSinceLog += report.loss
      stepsSinceLog += 1
      yield stepEvent(progress, report, learningRate, performance.now() - started)

      const at = {
        step: progress.step,
        totalSteps: length.totalSteps,
        epochEnds: stepsInEpoch === length.stepsPerEpoch,
      }
      if (logIsDue(config, at)) {
        const log = {
          loss: lossSumSinceLog / stepsSinceLog,
          grad_norm: report.gradNorm,
          learning_rate: learningRate,
          epoch: progress.epoch,
          step: progress.step,
        }
        lossSumSinceLog = 0
        stepsSinceLog = 0
        progress.log_history.push(log)
        yield { type: 'log', log }
      }
      if (evaluationIsDue(config, at)) yield* evaluated(input)
      // HOOK checkpoints: here a step is whole, logged and evaluated; `progress`, the session and the schedule's
      // position are all that a checkpoint has to hold, and a resumed run enters the two loops at `progress`.
    }
  }
  return closingLine(config, train.usable.length, progress, lossSum, (performance.now() - started) / 1000)
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
  { step, totalSteps, epoch }: Progress,
  report: StepReport,
  learningRate: number,
  elapsedMs: number,
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

async function* evaluated(input: LoopInput): AsyncGenerator<TrainEvent> {
  const { session, config, evaluation, padding, progress, signal } = input
  if (evaluation === null) return
  const batchRows = config.per_device_eval_batch_size
  const { step, epoch } = progress
  const log = yield* evaluate({ session, rows: evaluation, batchRows, padding, step, epoch, signal })
  progress.log_history.push(log)
}

/** The rows of a run are counted as Transformers counts them: whole schedule, full batches under `max_steps`. */
const closingLine = (
  config: Config,
  trainRows: number,
  { step, epoch }: Progress,
  lossSum: number,
  runtime: number,
): TrainLog => {
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
