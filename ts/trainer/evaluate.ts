// The evaluation loss: the mean over all supervised tokens of the rows, whatever the batches.
// (Transformers' `evaluate` takes the mean of the batches' means, which depends on the batch size.)

import { gather, type Padding, stepsOf } from '../data/batches.js'
import type { TokenRows } from '../data/encode.js'
import type { Session } from '../native/contract.js'
import { unwrap } from '../native/errors.js'
import { throwIfCancelled } from './cancel.js'
import type { EvalEvent, EvaluatingEvent } from './events.js'

export interface EvaluateInput {
  session: Pick<Session, 'evaluate'>
  rows: TokenRows
  batchRows: number
  padding: Padding
  /** Where in the run this is. */
  step: number
  epoch: number
  signal: AbortSignal | undefined
}

/** Evaluates all usable rows in their order; yields how far it is, last the loss, and returns the log's line. */
export async function* evaluate(
  input: EvaluateInput,
): AsyncGenerator<EvaluatingEvent | EvalEvent, EvalEvent['log']> {
  const { session, rows, batchRows, padding, step, epoch, signal } = input
  const totalBatches = Math.ceil(rows.usable.length / batchRows)
  const started = performance.now()
  let lossSum = 0
  let supervisedTokens = 0
  let doneBatches = 0
  for (const batch of stepsOf(rows.usable, { microBatchRows: batchRows, gradientAccumulationSteps: 1 })) {
    throwIfCancelled(signal)
    const report = unwrap(await session.evaluate(gather(rows, batch, padding)))
    lossSum += report.lossSum
    supervisedTokens += report.supervisedTokens
    doneBatches += 1
    yield { type: 'evaluating', step, doneBatches, totalBatches, elapsedMs: performance.now() - started }
  }
  const runtime = (performance.now() - started) / 1000
  const log = {
    eval_loss: lossSum / supervisedTokens,
    eval_runtime: runtime,
    eval_samples_per_second: rows.usable.length / runtime,
    eval_steps_per_second: totalBatches / runtime,
    epoch,
    step,
  }
  yield { type: 'eval', log }
  return log
}
