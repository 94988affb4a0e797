// The API of lora-train: what the command line does, as functions. Never prints and never ends the process.

export type { Config, ConfigInput } from './config/index.js'
export type { Plan, SessionInfo } from './native/contract.js'
export { type Code, exitStatus, LoraTrainError } from './native/errors.js'
export type * from './trainer/events.js'
export { type TrainOptions, train } from './trainer/train.js'
