// Figures of a measured training: tokens/s beside the FLOP ceiling, peak memory beside the plan. Runs nothing.

import type { TrainingResult } from './child/training.js'
import { type Figure, figure, repeated } from './figure.js'

/** A plan that is further off than this is wrong (DESIGN §2). */
export const planTolerance = 0.1

/** Steps without the first, in which memory is touched for the first time; all where there is only one. */
export const warmSteps = ({ steps }: TrainingResult): TrainingResult['steps'] =>
  steps.length > 1 ? steps.slice(1) : steps

/** The best tokens/s of the warm steps, and the spread. Steps differ in tokens, so times are taken for each token. */
export const tokensPerSecond = (result: TrainingResult): { best: number; spread: number | null } => {
  const { best, spread } = repeated(warmSteps(result).map(({ ms, tokens }) => ms / 1000 / tokens))
  return { best: 1 / best, spread }
}

/** FLOPs of the matrix products of a token: the head's (forward and dx) only for the supervised. */
export const flopsPerToken = (
  result: TrainingResult,
  head: { vocabSize: number; hiddenSize: number },
): number => {
  const sum = (of: 'tokens' | 'supervisedTokens'): number =>
    warmSteps(result).reduce((total, step) => total + step[of], 0)
  const unsupervised = 1 - sum('supervisedTokens') / sum('tokens')
  return result.flopsPerToken - 2 * 2 * head.vocabSize * head.hiddenSize * unsupervised
}

/** `peakGflops`: of multiply-adds in the training's precision. */
export const speedFigure = (
  bench: string,
  name: string,
  result: TrainingResult,
  { peakGflops, head }: { peakGflops: number; head: { vocabSize: number; hiddenSize: number } },
): Figure => {
  const { best, spread } = tokensPerSecond(result)
  return figure({
    bench,
    case: `${name} speed`,
    value: best,
    unit: 'tokens/s',
    limit: (peakGflops * 1e9) / flopsPerToken(result, head),
    limitName: 'FLOP ceiling',
    spread,
  })
}

export const memoryFigure = (bench: string, name: string, { info, peakRssBytes }: TrainingResult): Figure => {
  const limit = info.plan.peakBytes
  const off = peakRssBytes / limit - 1
  const percent = `${Math.abs(100 * off).toFixed(0)} %`
  return figure({
    bench,
    case: `${name} memory`,
    value: peakRssBytes,
    unit: 'bytes',
    limit,
    limitName: 'planned',
    fault: Math.abs(off) > planTolerance ? `${off > 0 ? 'more' : 'less'} than planned by ${percent}` : null,
  })
}
