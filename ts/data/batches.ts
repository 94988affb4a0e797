// Rows in an order → the batches of optimizer steps, as the engine takes them. Knows neither text nor schedule.
// A step is cut into micro-batches of rows; the last micro-batch and the last step of an epoch may be short.

import type { StepBatch } from '../native/contract.js'
import { IGNORED, lengthOf, type TokenRows } from './encode.js'

/** How sequences of a micro-batch lie: one after another, or padded to the longest with `padId`. */
export type Padding = { kind: 'none' } | { kind: 'longest'; padId: number }

/** Row numbers of one micro-batch. */
export type MicroBatch = Uint32Array

/** The micro-batches of each optimizer step of an epoch, in order. */
export function* stepsOf(
  order: Uint32Array,
  {
    microBatchRows,
    gradientAccumulationSteps,
  }: { microBatchRows: number; gradientAccumulationSteps: number },
): Generator<MicroBatch[]> {
  const stepRows = microBatchRows * gradientAccumulationSteps
  for (let start = 0; start < order.length; start += stepRows) {
    const step = order.subarray(start, start + stepRows)
    const microBatches: MicroBatch[] = []
    for (let at = 0; at < step.length; at += microBatchRows) {
      microBatches.push(step.subarray(at, at + microBatchRows))
    }
    yield microBatches
  }
}

/** Copies the rows of `microBatches` into one batch. Padding has the label −100; it never changes the loss. */
export const gather = (rows: TokenRows, microBatches: readonly MicroBatch[], padding: Padding): StepBatch => {
  const lengths = microBatches.map((batch) => {
    const own = Array.from(batch, (row) => lengthOf(rows, row))
    if (padding.kind === 'none') return own
    const longest = Math.max(...own)
    return own.map(() => longest)
  })
  const tokens = lengths.flat().reduce((sum, length) => sum + length, 0)
  const ids = new Uint32Array(tokens)
  const labels = new Int32Array(tokens).fill(IGNORED)
  if (padding.kind === 'longest') ids.fill(padding.padId)

  const seqStarts = [0]
  const microStarts = [0]
  let at = 0
  microBatches.forEach((batch, micro) => {
    batch.forEach((row, sequence) => {
      const start = rows.offsets[row] ?? 0
      const end = start + lengthOf(rows, row)
      ids.set(rows.ids.subarray(start, end), at)
      labels.set(rows.labels.subarray(start, end), at)
      at += lengths[micro]?.[sequence] ?? 0
      seqStarts.push(at)
    })
    microStarts.push(seqStarts.length - 1)
  })
  return { ids, labels, seqStarts: Uint32Array.from(seqStarts), microStarts: Uint32Array.from(microStarts) }
}
