// What the commands do, as functions of a config: each loads the engine and asks it; `train` and `quantize` yield events,
// the others return data.
// Never prints and never ends the process.

import type { z } from 'zod'
import {
  type Config,
  type ConfigInput,
  checkOffered,
  forTraining,
  missing,
  namedTokensOf,
  notices,
  type Purpose,
  resolveValues,
  SamplingConfig,
  samplingOf,
} from './config/index.js'
import { type Inspection, inspectWith } from './data/inspect.js'
import { localConfig } from './hub/resolve.js'
import type { DoctorReport, Plan } from './native/contract.js'
import { LoraTrainError } from './native/errors.js'
import { native } from './native/index.js'
import { withReports, writeReportOf } from './report/index.js'
import type { TrainEvent } from './trainer/events.js'
import { type Answer, generateWith, type Question } from './trainer/generate.js'
import { examineWith, planWith } from './trainer/plan.js'
import { quantizeWith } from './trainer/quantize.js'
import { type TrainOptions, trainWith } from './trainer/train.js'

/** The checked config, without what is not offered. Throws `CONFIG`. */
const offered = (input: ConfigInput, purpose?: Purpose): Config => {
  const resolved = resolveValues(input)
  checkOffered(resolved, purpose)
  return resolved.config
}

/**
 * Fine-tunes as `config` says: an object in any spelling that a config file may have.
 *
 * Throws a `LoraTrainError`: `CONFIG`, `DATA`, `MODEL_FILES`, `MEMORY`, `DEVICE`, `DIVERGED`, `OUTPUT`.
 *
 * @example
 * for await (const event of train({ model_name_or_path, data_path, output_dir, lora: {} })) {
 *   if (event.type === 'log') console.log(event.log.loss)
 * }
 */
export async function* train(config: ConfigInput, { signal }: TrainOptions = {}): AsyncGenerator<TrainEvent> {
  const resolved = resolveValues(config)
  const checked = forTraining(resolved)
  for (const message of notices(resolved)) yield { type: 'notice', message }
  const events = trainWith(await native(), checked, signal ? { signal } : {})
  yield* withReports(resolved, events)
}

/**
 * What a run of `config` would take: bytes by kind, parameters, the time of a step. Reads no weight.
 *
 * A run that does not fit is an answer here, not an error. Throws `CONFIG`, `MODEL_FILES`.
 *
 * @example
 * const { fits, peakBytes } = await planOf({ model_name_or_path: './model', lora: { r: 16 }, memory: ['24GiB'] })
 */
export const planOf = async (config: ConfigInput): Promise<Plan> => {
  const checked = offered(config, 'planning')
  return planWith(await native(), checked)
}

/**
 * What this machine has: instruction sets, threads, memory, and speeds that are measured in about a second.
 *
 * @example
 * const { isa, gemmGflopsF32 } = await examine()
 */
export const examine = async (): Promise<DoctorReport> => examineWith(await native())

/**
 * Writes the model of `config` to its `output_dir` in 4 or 8 bits, as its section `quantization` says.
 *
 * Throws a `LoraTrainError`: `USAGE` where that says neither or both, `CONFIG`, `MODEL_FILES`, `MEMORY`, `OUTPUT`, `CANCELLED`.
 *
 * @example
 * for await (const event of quantize({ model_name_or_path, output_dir, quantization: { load_in_4bit: true } })) {
 *   if (event.type === 'saved') console.log(event.path)
 * }
 */
export async function* quantize(
  config: ConfigInput,
  { signal }: TrainOptions = {},
): AsyncGenerator<TrainEvent> {
  const resolved = resolveValues(config)
  checkOffered(resolved, 'quantizing')
  for (const message of notices(resolved)) yield { type: 'notice', message }
  yield* quantizeWith(await native(), resolved.config, signal ? { signal } : {})
}

/** Which rows `inspectRows` shows: `count` from row `first`, from 1. */
export interface RowRange {
  first?: number
  count?: number
}

/**
 * The rows of `data_path` as the model sees them, and numbers over all of them.
 *
 * Throws `CONFIG`, `DATA`, `MODEL_FILES`.
 *
 * @example
 * const { shown } = await inspectRows({ model_name_or_path: './model', data_path: 'rows.json' }, { count: 1 })
 * shown[0]?.segments // [{ supervised: false, tokens: ['Below', …] }, { supervised: true, tokens: […] }]
 */
export const inspectRows = async (
  config: ConfigInput,
  { first = 1, count = 3 }: RowRange = {},
): Promise<Inspection> => {
  const checked = offered(config)
  if (checked.data_path === null) throw missing('data_path')
  const local = await localConfig(checked, ['tokenizer'])
  return inspectWith(await native(), {
    tokenizerPath: local.tokenizer_name ?? local.model_name_or_path,
    tokens: namedTokensOf(checked),
    path: checked.data_path,
    template: checked.template,
    modelMaxLength: checked.model_max_length,
    trainOnSource: checked.train_on_source,
    first,
    count,
  })
}

/** What is asked of the model, and how it answers. */
export interface GenerateInput {
  question: Question
  /** A PEFT folder, such as `train` writes. */
  adapter?: string
  /** Under the names of Transformers; what is left out has the command's default. */
  sampling?: z.input<typeof SamplingConfig>
  signal?: AbortSignal
}

/**
 * The model's answer to one question.
 *
 * Throws `CONFIG`, `DATA` where the prompt has no token, `MODEL_FILES`, `MEMORY`, `CANCELLED`.
 *
 * @example
 * const { text } = await generate(
 *   { model_name_or_path: './model' },
 *   { question: { kind: 'text', prompt: 'Once' }, adapter: './out', sampling: { max_new_tokens: 32 } },
 * )
 */
export const generate = async (
  config: ConfigInput,
  { question, adapter, sampling = {}, signal }: GenerateInput,
): Promise<Answer> => {
  const checked = offered(config)
  const parsed = SamplingConfig.safeParse(sampling)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    const name = ['sampling', ...(issue?.path ?? [])].join('.')
    throw new LoraTrainError('CONFIG', `${name}: ${issue?.message}`, 'Correct the option.')
  }
  return generateWith(await native(), checked, {
    question,
    adapter: adapter ?? null,
    sampling: samplingOf(parsed.data),
    ...(signal && { signal }),
  })
}

/**
 * Draws loss.svg, loss.png and report.html from the log of a run that is over: the `trainer_state.json` in `folder`
 * or in its newest checkpoint, Transformers' or ours. They go to `outputDir`, by default the same folder.
 *
 * Returns their paths. Throws `DATA` where there is no log, and `OUTPUT`.
 *
 * @example
 * const [svg, png, page] = await report('./out')
 */
export const report = (folder: string, outputDir?: string): Promise<string[]> =>
  writeReportOf(folder, outputDir)
