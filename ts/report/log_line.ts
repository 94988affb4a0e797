// Hugging Face's log lines: a Python dict on one line, numbers in Python's spelling (Transformers 4; 5 prints strings).
// loss and epoch are rounded, rates are not: scripts read them to the last digit. `trainer_state.json` rounds nothing.

import type { EvalEvent, LogEvent, TrainLog } from '../trainer/events.js'
import { pythonFloat, pythonRound } from './python_number.js'

const dict = (entries: Record<string, number>): string =>
  `{${Object.entries(entries)
    .map(([key, value]) => `'${key}': ${pythonFloat(value)}`)
    .join(', ')}}`

/** Four decimals; a norm too small for them keeps four digits, so that it never reads as zero. */
const roundNorm = (norm: number): number =>
  Math.abs(norm) < 1e-3 ? Number(norm.toPrecision(4)) : pythonRound(norm, 4)

/** `{'loss': 0.6569, 'grad_norm': 1.2345, 'learning_rate': 1.2166081717612798e-11, 'epoch': 2.0}` */
export const logLine = ({ loss, grad_norm, learning_rate, epoch }: LogEvent['log']): string =>
  dict({
    loss: pythonRound(loss, 4),
    grad_norm: roundNorm(grad_norm),
    learning_rate,
    epoch: pythonRound(epoch, 2),
  })

/** `{'eval_loss': 1.0932583808898926, 'eval_runtime': 2.1, …, 'epoch': 1.0}` */
export const evalLine = (log: EvalEvent['log']): string =>
  dict({
    eval_loss: log.eval_loss,
    eval_runtime: pythonRound(log.eval_runtime, 4),
    eval_samples_per_second: pythonRound(log.eval_samples_per_second, 3),
    eval_steps_per_second: pythonRound(log.eval_steps_per_second, 3),
    epoch: pythonRound(log.epoch, 2),
  })

/** `{'train_runtime': 180191.995, 'train_samples_per_second': 0.716, …, 'train_loss': 0.86…, 'epoch': 2.0}` */
export const closingLine = (log: TrainLog): string =>
  dict({
    train_runtime: pythonRound(log.train_runtime, 4),
    train_samples_per_second: pythonRound(log.train_samples_per_second, 3),
    train_steps_per_second: pythonRound(log.train_steps_per_second, 3),
    train_loss: log.train_loss,
    epoch: pythonRound(log.epoch, 2),
  })
