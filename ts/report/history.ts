// What a run has come to, step by step, as the pictures need it: fed by events or by a log, bounded however long the
// run is. Draws nothing and reads no file.

import type { LogLine } from '../trainer/state.js'

/** One step, or one line of the log where no more is known of the steps before it. null: not known. */
export interface Point {
  step: number
  epoch: number
  loss: number
  gradNorm: number | null
  learningRate: number | null
  tokensPerSecond: number | null
}

export interface Evaluation {
  step: number
  loss: number
}

export interface History {
  points: Point[]
  evaluations: Evaluation[]
}

/** Beyond this, points are thinned to half: a run of a million steps stays within a few tens of megabytes. */
const pointsMax = 200_000

/** Adds one point. */
export const addPoint = (history: History, point: Point): void => {
  history.points.push(point)
  if (history.points.length > pointsMax) history.points = thinned(history.points, pointsMax / 2)
}

/**
 * At most `limit` of the points: of each stretch of neighbours the one of the lowest and the one of the highest loss,
 * so that what was seen of a curve's width is still seen. Loss that is no number counts as the highest.
 */
export const thinned = <P extends { loss: number }>(points: P[], limit: number): P[] => {
  if (points.length <= limit) return points
  const stretches = Math.max(1, Math.floor(limit / 2))
  const kept: P[] = []
  for (let stretch = 0; stretch < stretches; stretch++) {
    const from = Math.floor((stretch * points.length) / stretches)
    const to = Math.floor(((stretch + 1) * points.length) / stretches)
    let lowest = from
    let highest = from
    for (let i = from + 1; i < to; i++) {
      if (heightOf(points[i]) < heightOf(points[lowest])) lowest = i
      if (heightOf(points[i]) >= heightOf(points[highest])) highest = i
    }
    for (const i of new Set([Math.min(lowest, highest), Math.max(lowest, highest)])) {
      const point = points[i]
      if (point !== undefined) kept.push(point)
    }
  }
  return kept
}

const heightOf = (point: { loss: number } | undefined): number =>
  point === undefined || Number.isNaN(point.loss) ? Number.POSITIVE_INFINITY : point.loss

/** Whether a loss can be drawn; one so large is no less a divergence than one that is no number. */
export const isDrawable = (loss: number): boolean => Math.abs(loss) < 1e30

/** What a `log_history` holds: Transformers' or ours. */
export const historyOf = (log: readonly (LogLine | Readonly<Record<string, unknown>>)[]): History => {
  const history: History = { points: [], evaluations: [] }
  for (const line of log as readonly Readonly<Record<string, unknown>>[]) {
    const step = number(line.step)
    if (step === null) continue
    const loss = number(line.loss)
    const evalLoss = number(line.eval_loss)
    if (loss !== null) {
      addPoint(history, {
        step,
        epoch: number(line.epoch) ?? 0,
        loss,
        gradNorm: number(line.grad_norm),
        learningRate: number(line.learning_rate),
        tokensPerSecond: null,
      })
    }
    if (evalLoss !== null) history.evaluations.push({ step, loss: evalLoss })
  }
  return history
}

/** Logs of Transformers 5 hold texts where those of 4 hold numbers. */
const number = (value: unknown): number | null => {
  if (typeof value === 'number') return value
  if (typeof value !== 'string' || value.trim() === '') return null
  const found = Number(value)
  return Number.isNaN(found) ? null : found
}

const epochsMax = 1000

/** The steps at which an epoch ended and another began, as far as the points say. */
export const epochBorders = (points: readonly Point[]): number[] => {
  const borders: number[] = []
  for (let i = 1; i < points.length; i++) {
    const before = points[i - 1]
    const after = points[i]
    // A log from elsewhere may say anything; no line of it stands for so many epochs.
    if (before === undefined || after === undefined || !(after.epoch - before.epoch < epochsMax)) continue
    const perStep = (after.epoch - before.epoch) / (after.step - before.step)
    for (let epoch = Math.floor(before.epoch) + 1; epoch <= after.epoch; epoch++) {
      borders.push(before.step + (epoch - before.epoch) / perStep)
    }
  }
  // The end of the run is no border.
  const last = points.at(-1)?.step
  return borders.filter((step) => step < (last ?? 0) - 1e-6)
}

/**
 * TensorBoard's smoothing: an exponential mean, freed of its start at zero.
 *
 * ```text
 * m ← w·m + (1−w)·x      y = m / (1 − wⁿ)      n: how many x there were
 * ```
 * What is no finite number is passed on, and left out of the mean.
 */
export const smoothed = (values: readonly number[], weight: number): number[] => {
  let mean = 0
  let bias = 1
  return values.map((value) => {
    if (!Number.isFinite(value)) return value
    mean = weight * mean + (1 - weight) * value
    bias *= weight
    return mean / (1 - bias)
  })
}

/** A weight that averages over about a hundredth of the curve, whatever its length; few points stay as they are. */
export const smoothingWeight = (points: number): number =>
  1 - 1 / Math.max(1, points / 100, Math.min(points / 10, 2.5))
