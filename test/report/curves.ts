// Losses of the shapes that the two runs had, for tests and for the eye: made up, always the same.

import type { History } from '../../ts/report/history.js'

/** A generator of numbers from −1 to 1. */
const noise = (): (() => number) => {
  let state = 7
  return () => {
    // A linear congruential generator (Numerical Recipes): any spread does.
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 31 - 1
  }
}

const historyOf = (steps: number, stepsPerEpoch: number, lossAt: (step: number) => number): History => ({
  points: Array.from({ length: steps }, (_, i) => ({
    step: i + 1,
    epoch: (i + 1) / stepsPerEpoch,
    loss: lossAt(i + 1),
    gradNorm: 1 + 0.3 * Math.sin(i),
    learningRate: 1e-5 * (1 - i / steps),
    tokensPerSecond: 1000 + 10 * Math.sin(i / 5),
  })),
  evaluations: [stepsPerEpoch, 2 * stepsPerEpoch]
    .map(Math.round)
    .map((step) => ({ step, loss: lossAt(step) + 0.05 })),
})

/** Smooth, with a step down where the second epoch sees the rows again. */
export const smoothWithStep = (steps = 4030): History => {
  const next = noise()
  return historyOf(steps, steps / 2, (step) => {
    const start = 1.1 * Math.exp(-step / (steps / 40))
    const course = 0.98 - 0.12 * (step / steps) - (step > steps / 2 ? 0.2 : 0)
    return course + start + 0.05 * next()
  })
}

/** A loss that swings as the rows' kinds come and go. */
export const oscillating = (steps = 1200): History => {
  const next = noise()
  return historyOf(steps, steps / 3, (step) => {
    const swing = 0.35 * Math.sin((step / steps) * 2 * Math.PI * 14)
    return 1.6 + 0.8 * Math.exp(-step / (steps / 20)) + swing + 0.12 * next()
  })
}
