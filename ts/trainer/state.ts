// `trainer_state.json`: what Transformers keeps of a run, under its keys, unrounded.

import type { Config } from '../config/index.js'
import type { Plan } from '../native/contract.js'
import type { EvalEvent, LogEvent, TrainLog } from './events.js'
import type { Progress } from './loop.js'
import { intervalOf, runLength } from './schedule.js'

/** A line of `log_history`. */
export type LogLine = LogEvent['log'] | EvalEvent['log'] | TrainLog

export interface TrainerState {
  epoch: number
  eval_steps: number
  global_step: number
  log_history: LogLine[]
  logging_steps: number
  max_steps: number
  num_input_tokens_seen: number
  num_train_epochs: number
  save_steps: number
  total_flos: number
  train_batch_size: number
}

/** What tools look for in the file and what this trainer has one answer to. */
const fixed = {
  best_global_step: null,
  best_metric: null,
  best_model_checkpoint: null,
  is_hyper_param_search: false,
  is_local_process_zero: true,
  is_world_process_zero: true,
  stateful_callbacks: {},
  trial_name: null,
  trial_params: null,
}

/** The text of the file: keys in order, as Transformers writes them. */
export const stateText = (state: TrainerState): string => {
  const entries = Object.entries({ ...fixed, ...state }).sort(([a], [b]) => (a < b ? -1 : 1))
  return `${JSON.stringify(Object.fromEntries(entries), null, 2)}\n`
}

/** What is kept of a run of `trainRows` rows that has come to `progress`. */
export const stateOf = (
  config: Config,
  trainRows: number,
  { step, totalSteps, epoch, tokens, log_history }: Progress,
  plan: Plan,
): TrainerState => ({
  epoch,
  eval_steps: intervalOf(totalSteps, config.eval_steps ?? config.logging_steps),
  global_step: step,
  log_history,
  logging_steps: intervalOf(totalSteps, config.logging_steps),
  max_steps: totalSteps,
  num_input_tokens_seen: tokens,
  num_train_epochs: runLength(trainRows, config).epochs,
  save_steps: intervalOf(totalSteps, config.save_steps),
  total_flos: tokens * plan.flopsPerToken,
  train_batch_size: config.per_device_train_batch_size,
})
