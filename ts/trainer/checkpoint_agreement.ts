// What must agree between a checkpoint and the run that goes on from it, so that the run ends with the same bits.
// Compares; reads no file.

import { createHash } from 'node:crypto'
import { type Config, engineOptions } from '../config/index.js'
import type { TokenRows } from '../data/encode.js'
import { LoraTrainError } from '../native/errors.js'
import type { Agreement, Checkpoint } from './checkpoint_files.js'
import type { RowOrder } from './loop.js'
import { runLength, warmupStepsOf } from './schedule.js'

/** The options that may differ. Every other option must agree, so that a new one does until it stands here. */
const mayDiffer: readonly (keyof Config | 'lora.save_embedding_layers')[] = [
  // Paths and names: what they lead to is compared, as `model` and `rows`.
  'model_name_or_path',
  'model_revision',
  'tokenizer_name',
  'data_path',
  'eval_data_path',
  // What they come to is compared: total and warm-up steps, the optimizer's arithmetic, the products' precision, the
  // seed of the rows' order.
  'num_train_epochs',
  'max_steps',
  'warmup_steps',
  'warmup_ratio',
  'optim',
  'bf16',
  'data_seed',
  'deepspeed',
  // They change how the result is computed, not the result.
  'threads',
  'quantized_cache_dir',
  'memory',
  'gradient_checkpointing',
  'offload_optimizer',
  'offload_param',
  // They change what is said and kept on the way.
  'logging_strategy',
  'logging_steps',
  'logging_first_step',
  'eval_strategy',
  'eval_steps',
  'eval_on_start',
  'per_device_eval_batch_size',
  'report_to',
  'logging_dir',
  'disable_tqdm',
  'output_dir',
  'overwrite_output_dir',
  'adapter_output_dir',
  'save_strategy',
  'save_steps',
  'save_total_limit',
  'resume_from_checkpoint',
  'lora.save_embedding_layers',
]

/** The options that must agree, by full name. Lists count as they are written. */
export const optionsThatAgree = (config: Config, order: RowOrder): Agreement['options'] => {
  const { method, optimizer, computeDtype } = engineOptions(config)
  const derived = {
    method: method.kind,
    optim: optimizer.kind,
    compute_dtype: computeDtype,
    data_seed: config.data_seed ?? config.seed,
    row_order: order,
  }
  const written = Object.entries(config).flatMap(([name, value]): [string, unknown][] =>
    typeof value !== 'object' || value === null || Array.isArray(value)
      ? [[name, value]]
      : Object.entries(value).map(([key, inner]) => [`${name}.${key}`, inner]),
  )
  const agreed = written.filter(([name]) => !mayDiffer.some((other) => other === name))
  // As it is read back: without what is undefined.
  return JSON.parse(JSON.stringify({ ...derived, ...Object.fromEntries(agreed) }))
}

/** What a checkpoint of this run keeps, but for the model, which is known when it is loaded. */
export const agreementOf = (config: Config, order: RowOrder, train: TokenRows): Omit<Agreement, 'model'> => {
  const { totalSteps } = runLength(train.usable.length, config)
  return {
    options: optionsThatAgree(config, order),
    totalSteps,
    warmupSteps: warmupStepsOf(totalSteps, config),
    rows: rowsSha256(train),
  }
}

/** Of ids, labels and the rows that are trained on: whatever made them, they are the data. */
const rowsSha256 = ({ ids, labels, offsets, usable }: TokenRows): string => {
  const hash = createHash('sha256')
  for (const { buffer, byteOffset, byteLength } of [offsets, usable, ids, labels]) {
    hash.update(`${byteLength} `).update(new Uint8Array(buffer, byteOffset, byteLength))
  }
  return hash.digest('hex')
}

/** Throws `CONFIG` with the first option that differs, and both its values. */
export const refuseOtherOptions = (
  { path, agreement: { options: then } }: Checkpoint,
  now: Agreement['options'],
): void => {
  for (const name of new Set([...Object.keys(now), ...Object.keys(then)])) {
    const [here, there] = [now[name], then[name]].map((value) => JSON.stringify(value) ?? 'not set')
    if (here !== there) throw differs(path, `${name} is ${here}, and ${there} in the checkpoint`)
  }
}

/** Throws where the run differs from that of the checkpoint: `CONFIG` for its length, `DATA` for its rows. */
export const refuseOtherRun = (
  { path, run, agreement: then }: Checkpoint,
  now: Omit<Agreement, 'model'>,
): void => {
  // A rate that does not know how long the run is stays the same when it grows.
  const growing = String(now.options.lr_scheduler_type).startsWith('constant')
  if (now.totalSteps !== then.totalSteps && !(growing && now.totalSteps >= run.step)) {
    throw differs(path, `the run has ${now.totalSteps} steps, and ${then.totalSteps} in the checkpoint`)
  }
  if (now.warmupSteps !== then.warmupSteps) {
    throw differs(path, `the warm-up has ${now.warmupSteps} steps, and ${then.warmupSteps} in the checkpoint`)
  }
  if (now.rows !== then.rows) {
    throw new LoraTrainError(
      'DATA',
      `${path}: the rows give other tokens (${brief(now.rows)}) than those that it was trained on (${brief(then.rows)})`,
      'Give the file and the tokenizer that the run began with, or start anew.',
    )
  }
}

const brief = (sha256: string): string => sha256.slice(0, 16)

/** Throws `MODEL_FILES` where the base model is another one. `model` is the engine's fingerprint. */
export const refuseOtherModel = ({ path, agreement: then }: Checkpoint, model: string): void => {
  if (model === then.model) return
  throw new LoraTrainError(
    'MODEL_FILES',
    `${path}: the model (${model}) is not the one that it was trained on (${then.model})`,
    'Give the base model that the run began with, or start anew.',
  )
}

const differs = (path: string, what: string): LoraTrainError =>
  new LoraTrainError(
    'CONFIG',
    `${path}: ${what}`,
    'Go on with the options that the run began with, or leave resume_from_checkpoint out to start anew.',
  )
