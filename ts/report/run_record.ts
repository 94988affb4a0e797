// What the report of a run tells: gathered from its events, or from a `trainer_state.json` alone. Writes nothing.

import { z } from 'zod'
import { type Config, notices, type Origin, place, type Resolved } from '../config/index.js'
import type { Plan, SessionInfo } from '../native/contract.js'
import type { DataEvent, StartEvent, TrainEvent, TrainLog } from '../trainer/events.js'
import type { StateFile } from './earlier.js'
import { addPoint, type History, historyOf } from './history.js'

/** The closing line, where the log came to its end. */
const TrainLogLine = z.object({
  train_runtime: z.number(),
  train_samples_per_second: z.number(),
  train_steps_per_second: z.number(),
  train_loss: z.number(),
  epoch: z.number(),
  step: z.number(),
})

/** One option as the report shows it. */
export interface OptionRow {
  name: string
  value: string
  /** Where the value comes from: `run.yaml:3`, `default`. */
  origin: string
}

/** How a run ended, in words, and what is to be seen of it. */
export interface End {
  how: 'done' | 'interrupted' | 'failed' | 'running'
  words: string
}

/** null and empty: not known. */
export interface RunRecord {
  title: string
  startedAt: Date | null
  history: History
  start: StartEvent | null
  plan: Plan | null
  model: SessionInfo | null
  data: DataEvent[]
  notices: string[]
  options: OptionRow[]
  closing: TrainLog | null
  /** The most memory that the process ever had. */
  peakBytes: number | null
  end: End
}

/** A record of which only the title is known. */
export const emptyRecord = (title: string): RunRecord => ({
  title,
  startedAt: null,
  history: { points: [], evaluations: [] },
  start: null,
  plan: null,
  model: null,
  data: [],
  notices: [],
  options: [],
  closing: null,
  peakBytes: null,
  end: { how: 'running', words: '' },
})

/** The record of a run that begins now. */
export const recordOf = (resolved: Resolved): RunRecord => ({
  ...emptyRecord(titleOf(resolved.config)),
  startedAt: new Date(),
  notices: notices(resolved),
  options: optionRows(resolved),
})

/** The record of a run of which there is its log alone: Transformers' or ours. */
export const recordOfState = (title: string, { log_history: log }: StateFile): RunRecord => {
  const last = TrainLogLine.safeParse(log.at(-1))
  return { ...emptyRecord(title), history: historyOf(log), closing: last.success ? last.data : null }
}

/** Adds what an event tells. */
export const recordEvent = (record: RunRecord, event: TrainEvent): void => {
  switch (event.type) {
    case 'notice':
      record.notices.push(event.message)
      break
    case 'data':
      record.data.push(event)
      break
    case 'plan':
      record.plan = event.plan
      break
    case 'loaded':
      record.model = event.model
      break
    case 'start':
      record.start = event
      break
    case 'step': {
      const { step, epoch, loss, gradNorm, learningRate, tokensPerSecond } = event
      addPoint(record.history, { step, epoch, loss, gradNorm, learningRate, tokensPerSecond })
      break
    }
    case 'eval':
      record.history.evaluations.push({ step: event.log.step, loss: event.log.eval_loss })
      break
    case 'interrupted':
      record.end = {
        how: 'interrupted',
        words: `Interrupted after ${event.step} of ${event.totalSteps} steps.`,
      }
      break
    case 'done':
      record.closing = event.log
      record.end = { how: 'done', words: `Done: ${event.savedTo}` }
      break
    default:
      break
  }
}

/** `SmolLM2-135M · QLoRA, r 16` */
const titleOf = ({ model_name_or_path: model, lora, quantization }: Config): string => {
  const adapter = quantization?.load_in_4bit ? 'QLoRA' : quantization?.load_in_8bit ? 'LoRA on int8' : 'LoRA'
  const method = lora === null ? 'full fine-tuning' : `${adapter}, r ${lora.r}`
  // The last two parts: a hub id has two, and a folder may be called just `model`.
  const name = model.split(/[\\/]/).filter((part) => part !== '' && !/^\.+$/.test(part))
  return `${name.slice(-2).join('/')} · ${method}`
}

const optionRows = ({ config, origins }: Resolved): OptionRow[] =>
  Object.entries(config).flatMap(([name, value]): OptionRow[] => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      return [optionRow(name, value, origins.get(name))]
    }
    return Object.entries(value).map(([key, inner]) =>
      optionRow(`${name}.${key}`, inner, origins.get(`${name}.${key}`)),
    )
  })

const optionRow = (name: string, value: unknown, origin: Origin = { from: 'default' }): OptionRow => ({
  name,
  value: typeof value === 'string' ? value : JSON.stringify(value),
  origin: place(origin),
})
