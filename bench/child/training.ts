// One measured training in a process of its own, so that its peak memory is its own. Argument: a TrainingJob as JSON;
// prints a TrainingResult as one line of JSON, or ends with the engine's exit status and its message on stderr.

import { readFileSync } from 'node:fs'
import { seededRandom } from '../../scripts/tiny-model/random.js'
import { type Config, type ConfigInput, engineOptions, resolveValues } from '../../ts/config/index.js'
import { gather, type Padding, stepsOf } from '../../ts/data/batches.js'
import { lengthOf, readTokenRows } from '../../ts/data/encode.js'
import type { Native, SessionInfo, StepBatch, StepReport } from '../../ts/native/contract.js'
import { exitStatus, LoraTrainError, native, unwrap } from '../../ts/native/index.js'

/** What is trained on: random ids of full length, or the first rows of a file at their own lengths. */
export type JobData = { kind: 'random' } | { kind: 'file'; path: string }

export interface TrainingJob {
  config: ConfigInput
  steps: number
  data: JobData
}

export interface MeasuredStep extends Pick<StepReport, 'loss' | 'ms' | 'tokens' | 'supervisedTokens'> {
  /** Of the sequences of each micro-batch. */
  lengths: number[][]
}

export interface TrainingResult {
  info: SessionInfo
  steps: MeasuredStep[]
  peakRssBytes: number
}

/** The most memory that this process ever held. */
const peakRssBytes = (): number => {
  try {
    const found = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))
    if (found !== null) return Number(found[1]) * 1024
  } catch {
    // Not Linux: the resource usage says the same, in KiB.
  }
  return process.resourceUsage().maxRSS * 1024
}

/** Every step the same work: `micros` micro-batches of `rows` sequences of random ids, all supervised. */
const randomStep = (config: Config, vocabSize: number): StepBatch => {
  const { model_max_length: length, per_device_train_batch_size: rows } = config
  const micros = config.gradient_accumulation_steps
  const random = seededRandom(1)
  const ids = Uint32Array.from({ length: micros * rows * length }, () => random.below(vocabSize))
  return {
    ids,
    labels: Int32Array.from(ids),
    seqStarts: Uint32Array.from({ length: micros * rows + 1 }, (_, row) => row * length),
    microStarts: Uint32Array.from({ length: micros + 1 }, (_, micro) => micro * rows),
  }
}

/** The steps' batches, made when the vocabulary is known, and the longest sequence, which the plan needs before. */
interface Batches {
  lengthMax: number
  make(vocabSize: number): StepBatch[]
}

const batchesOf = async (engine: Native, { data, steps }: TrainingJob, config: Config): Promise<Batches> => {
  if (data.kind === 'random') {
    const make = (vocabSize: number): StepBatch[] => Array(steps).fill(randomStep(config, vocabSize))
    return { lengthMax: config.model_max_length, make }
  }
  const tokenizer = unwrap(await engine.openTokenizer(config.model_name_or_path))
  const { rows } = await readTokenRows(tokenizer, {
    path: data.path,
    template: config.template,
    modelMaxLength: config.model_max_length,
    trainOnSource: config.train_on_source,
  })
  // Any id does for padding: nothing attends to it.
  const padding: Padding = config.packing ? { kind: 'none' } : { kind: 'longest', padId: 0 }
  const microBatchRows = config.per_device_train_batch_size
  const gradientAccumulationSteps = config.gradient_accumulation_steps
  const order = rows.usable.subarray(0, steps * microBatchRows * gradientAccumulationSteps)
  const batches = [...stepsOf(order, { microBatchRows, gradientAccumulationSteps })]
  return {
    lengthMax: Math.max(...Array.from(order, (row) => lengthOf(rows, row))),
    make: () => batches.map((micros) => gather(rows, micros, padding)),
  }
}

const lengthsOf = ({ seqStarts, microStarts }: StepBatch): number[][] =>
  Array.from(microStarts.subarray(1), (end, micro) => {
    const starts = seqStarts.subarray(microStarts[micro] ?? 0, end + 1)
    return Array.from(starts.subarray(1), (next, row) => next - (starts[row] ?? 0))
  })

const measure = async (job: TrainingJob): Promise<TrainingResult> => {
  const { config } = resolveValues(job.config)
  const engine = await native()
  const batches = await batchesOf(engine, job, config)
  const options = engineOptions(config)
  const plan = { ...options.plan, seqLength: batches.lengthMax }
  const session = engine.openSession(JSON.stringify({ ...options, plan }))
  const info = JSON.parse(unwrap(await session.load()).json) as SessionInfo
  const steps: TrainingResult['steps'] = []
  for (const batch of batches.make(info.vocabSize)) {
    const { loss, ms, tokens, supervisedTokens } = unwrap(await session.step(batch, config.learning_rate))
    steps.push({ loss, ms, tokens, supervisedTokens, lengths: lengthsOf(batch) })
  }
  const peak = peakRssBytes()
  await session.close()
  return { info, steps, peakRssBytes: peak }
}

try {
  const result = await measure(JSON.parse(process.argv[2] ?? '') as TrainingJob)
  process.stdout.write(`${JSON.stringify(result)}\n`)
} catch (error) {
  if (!(error instanceof LoraTrainError)) throw error
  process.stderr.write(`error: ${error.message}\nhint: ${error.hint}\n`)
  process.exitCode = exitStatus(error.code)
}
