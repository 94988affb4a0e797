// The API of lora-train: what the command line does, as functions. Never prints and never ends the process.

export {
  examine,
  type GenerateInput,
  generate,
  inspectRows,
  planOf,
  quantize,
  type RowRange,
  report,
  train,
} from './api.js'
export { type Config, type ConfigInput, notices, type Resolved, resolveValues } from './config/index.js'
export type { Inspection, SeenRow, Segment } from './data/inspect.js'
export type { DoctorReport, Plan, SessionInfo } from './native/contract.js'
export { type Code, exitStatus, LoraTrainError } from './native/errors.js'
export type * from './trainer/events.js'
export type { Answer, Question } from './trainer/generate.js'
export type { TrainOptions } from './trainer/train.js'
