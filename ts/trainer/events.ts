// The events of a training run: one discriminated union that every report renders, exhaustively.
// Values are unrounded and carry their unit in the name; words and spelling belong to `ts/report`.

import type { RowStatistics } from '../data/encode.js'
import type { Checked, Plan, SessionInfo } from '../native/contract.js'

/** Which rows an event speaks of. */
export type Split = 'train' | 'eval'

/** Memory and parameters, before anything is loaded. */
export interface PlanEvent {
  type: 'plan'
  plan: Plan
}

/** Rows and tokens of one split, after tokenising. Row numbers are 1-based, as in the file's order. */
export interface DataEvent extends RowStatistics {
  type: 'data'
  split: Split
  path: string
}

/** Something that people should know and that does not stop the run; said once. */
export interface NoticeEvent {
  type: 'notice'
  message: string
}

/** How far the download of a model from the hub is; repeated while it lasts. */
export interface DownloadingEvent {
  type: 'downloading'
  /** `org/name` */
  id: string
  doneBytes: number
  totalBytes: number
  elapsedMs: number
  /** null: not known yet. */
  leftMs: number | null
}

/** What a model lacked in the hub's cache is there. */
export interface DownloadedEvent {
  type: 'downloaded'
  id: string
  bytes: number
  elapsedMs: number
  /** The folder of the cache. */
  path: string
}

/** What can be said while a model comes from the hub. */
export type HubEvent = DownloadingEvent | DownloadedEvent | NoticeEvent

/** How far loading is; repeated while it lasts. */
export interface LoadingEvent {
  type: 'loading'
  doneBytes: number
  totalBytes: number
  elapsedMs: number
  /** null: not known yet. */
  leftMs: number | null
}

/** How far a wait is that is no training; repeated while it lasts. */
export interface WorkingEvent {
  type: 'working'
  what:
    | 'hashing' // the files of a checkpoint: one that is gone on from, or that was just written
    | 'restoring' // weights and optimizer's state from a checkpoint
    | 'saving' // a result or a checkpoint
    | 'checking' // a result, read back from the disk
  path: string
  /** What is counted. */
  unit: 'bytes' | 'blocks'
  done: number
  total: number
  elapsedMs: number
  /** null: not known yet. */
  leftMs: number | null
}

export interface LoadedEvent {
  type: 'loaded'
  model: SessionInfo
  elapsedMs: number
}

/** Weights, optimizer and log are those of a checkpoint: the run goes on from there. */
export interface ResumedEvent {
  type: 'resumed'
  path: string
  /** Whole steps that are done. */
  step: number
}

/** What the loop is about to do. */
export interface StartEvent {
  type: 'start'
  totalSteps: number
  stepsPerEpoch: number
  epochs: number
  warmupSteps: number
  microBatchRows: number
  gradientAccumulationSteps: number
  trainRows: number
}

/** One optimizer step is done. */
export interface StepEvent {
  type: 'step'
  step: number
  totalSteps: number
  epoch: number
  loss: number
  gradNorm: number
  learningRate: number
  tokens: number
  supervisedTokens: number
  stepMs: number
  tokensPerSecond: number
  elapsedMs: number
  leftMs: number
}

/** A line of Hugging Face's log, under its keys. `loss` is the mean of the steps since the last line. */
export interface LogEvent {
  type: 'log'
  log: {
    loss: number
    grad_norm: number
    learning_rate: number
    epoch: number
    step: number
  }
}

/** How far an evaluation is. */
export interface EvaluatingEvent {
  type: 'evaluating'
  step: number
  doneBatches: number
  totalBatches: number
  elapsedMs: number
}

export interface EvalEvent {
  type: 'eval'
  log: {
    eval_loss: number
    eval_runtime: number
    eval_samples_per_second: number
    eval_steps_per_second: number
    epoch: number
    step: number
  }
}

/** A folder or a file is whole at its place. */
export interface SavedEvent {
  type: 'saved'
  what: 'adapter' | 'model' | 'tokenizer' | 'state' | 'checkpoint' | 'report'
  path: string
}

/** What was saved was read back from disk: its tensors and its logits are those in memory. */
export interface CheckedEvent extends Checked {
  type: 'checked'
  path: string
}

/** The signal ended the run: the step that ran is dropped. The last event of such a run. */
export interface InterruptedEvent {
  type: 'interrupted'
  /** Whole steps that were done. */
  step: number
  totalSteps: number
  /** The folder that `resume_from_checkpoint` goes on from. null: no step is saved. */
  checkpoint: string | null
}

/** The closing line of Hugging Face's log. */
export interface TrainLog {
  train_runtime: number
  train_samples_per_second: number
  train_steps_per_second: number
  train_loss: number
  epoch: number
  step: number
}

/** The last event of a whole run. */
export interface DoneEvent {
  type: 'done'
  log: TrainLog
  /** Where the adapter or the model is. */
  savedTo: string
}

export type TrainEvent =
  | PlanEvent
  | DataEvent
  | NoticeEvent
  | DownloadingEvent
  | DownloadedEvent
  | LoadingEvent
  | WorkingEvent
  | LoadedEvent
  | ResumedEvent
  | StartEvent
  | StepEvent
  | LogEvent
  | EvaluatingEvent
  | EvalEvent
  | SavedEvent
  | CheckedEvent
  | InterruptedEvent
  | DoneEvent
