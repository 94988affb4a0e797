// What the pictures are made of: smoothing, thinning, borders of epochs, logs of others.

import test from 'ava'
import { scaleOf, tickTexts, wholeScaleOf } from '../../ts/report/chart/scale.js'
import {
  addPoint,
  epochBorders,
  type History,
  historyOf,
  smoothed,
  smoothingWeight,
  thinned,
} from '../../ts/report/history.js'
import { oscillating, smoothWithStep } from './curves.js'

test('smoothing is the mean of all before, later ones weighing more', (t) => {
  const values = [3, 1, 4, 1, 5, 9, 2, 6]
  const weight = 0.6
  const means = smoothed(values, weight)
  for (const [n, mean] of means.entries()) {
    // TensorBoard's debiased mean, written out: Σ wⁿ⁻ⁱ·x[i] / Σ wⁿ⁻ⁱ.
    const weights = values.slice(0, n + 1).map((_, i) => weight ** (n - i))
    const sum = weights.reduce((a, b) => a + b, 0)
    const expected = weights.reduce((a, w, i) => a + w * (values[i] ?? 0), 0) / sum
    t.true(Math.abs(mean - expected) < 1e-12)
  }
  t.deepEqual(smoothed([2, Number.NaN, 2], weight).slice(1), [Number.NaN, 2])
  t.is(smoothingWeight(5), 0)
  t.is(smoothingWeight(50), 0.6)
  t.is(smoothingWeight(10_000), 0.99)
})

test('thinning keeps order, lowest and highest values, and the limit', (t) => {
  const { points } = oscillating(100_000)
  const few = thinned(points, 1000)
  t.true(few.length <= 1000 && few.length > 900)
  const losses = (all: typeof points) => all.map(({ loss }) => loss)
  t.is(Math.max(...losses(few)), Math.max(...losses(points)))
  t.is(Math.min(...losses(few)), Math.min(...losses(points)))
  t.deepEqual(
    few,
    [...few].sort((a, b) => a.step - b.step),
  )
  t.is(thinned(points, points.length), points)
})

test('a history of any length stays bounded', (t) => {
  let history: History = { points: [], evaluations: [] }
  const point = { epoch: 0, loss: 1, gradNorm: null, learningRate: null, tokensPerSecond: null }
  for (let step = 1; step <= 450_000; step++) addPoint(history, { ...point, step, loss: step % 7 })
  t.true(history.points.length <= 200_000)
  t.true((history.points.at(-1)?.step ?? 0) > 449_990)
  history = historyOf([])
  t.deepEqual(history, { points: [], evaluations: [] })
})

test('borders of epochs lie where the epochs say, also between two lines of a log', (t) => {
  t.deepEqual(epochBorders(smoothWithStep(400).points).map(Math.round), [200])
  const at = (step: number, epoch: number) => ({ step, epoch, loss: 1 })
  const { points } = historyOf([at(50, 0.5), at(150, 1.5), at(260, 2.6), at(300, 3)])
  t.deepEqual(epochBorders(points).map(Math.round), [100, 200])
  t.deepEqual(epochBorders(historyOf([at(1, 0), at(2, 1e300), at(3, Number.NaN)]).points), [])
})

test('logs of Transformers 4 and 5', (t) => {
  const { points, evaluations } = historyOf([
    { loss: 1.5, grad_norm: 2, learning_rate: 1e-5, epoch: 0.5, step: 10 },
    { loss: '1.25', grad_norm: '0.5', learning_rate: '1e-06', epoch: '1.0', step: 20 },
    { eval_loss: '1.75', epoch: '1.0', step: 20 },
    { train_runtime: 3, train_loss: 1.4, step: 20 },
    { loss: {}, step: 21 },
    { loss: 2 },
  ])
  t.deepEqual(
    points.map(({ step, loss, gradNorm, learningRate }) => [step, loss, gradNorm, learningRate]),
    [
      [10, 1.5, 2, 1e-5],
      [20, 1.25, 0.5, 1e-6],
    ],
  )
  t.deepEqual(evaluations, [{ step: 20, loss: 1.75 }])
})

test('ticks are round, within the scale, and told apart', (t) => {
  t.deepEqual(scaleOf(0.6, 2.1, 6).ticks, [0.6, 0.8, 1, 1.2, 1.4, 1.6, 1.8, 2])
  t.deepEqual(tickTexts(scaleOf(0.6, 2.1, 6)).slice(0, 3), ['0.6', '0.8', '1.0'])
  t.deepEqual(tickTexts(wholeScaleOf(0, 4030, 8)).at(-1), '4,000')
  t.deepEqual(tickTexts(scaleOf(0, 2e-5, 4)), ['0', '5e-6', '1e-5', '1.5e-5', '2e-5'])
  t.deepEqual(wholeScaleOf(0, 2, 8).ticks, [0, 1, 2])
  for (const [min, max] of [
    [3, 3],
    [0, 0],
    [-5, 1e12],
    [1e-300, 2e-300],
    [-1e30, 1e30],
  ] as const) {
    const { ticks, ...scale } = scaleOf(min, max, 8)
    t.true(scale.min < scale.max && ticks.length >= 1 && ticks.length < 30, `${min} to ${max}`)
    t.is(new Set(tickTexts({ ticks, ...scale })).size, ticks.length)
  }
})
