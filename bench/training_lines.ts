// Figures of a measured training: tokens/s beside the FLOP ceiling, products beside the FMA peak, peak memory beside the
// plan. Runs nothing.

import type { MeasuredStep, TrainingResult } from './child/training.js'
import { type Figure, figure, repeated } from './figure.js'
import { type Decoder, type StepFlops, stepFlops, total } from './flops.js'

/** A plan that is further off than this is wrong (DESIGN §2). */
const planTolerance = 0.1

/** Steps without the first, in which memory is touched for the first time; all where there is only one. */
const warmSteps = ({ steps }: TrainingResult): readonly MeasuredStep[] =>
  steps.length > 1 ? steps.slice(1) : steps

/** The best tokens/s of the warm steps, and the spread. Steps differ in tokens, so times are taken for each token. */
export const tokensPerSecond = (result: TrainingResult): { best: number; spread: number | null } => {
  const { best, spread } = repeated(warmSteps(result).map(({ ms, tokens }) => ms / 1000 / tokens))
  return { best: 1 / best, spread }
}

/** Who executes the products, and beside which speed: GFLOP/s of multiply-adds in the training's precision. */
export interface Executed {
  decoder: Decoder
  rank: number
  peakGflops: number
}

/** What a measured step executed. */
export const flopsOf = (
  { info: { plan } }: TrainingResult,
  { lengths, supervisedTokens }: MeasuredStep,
  { decoder, rank }: Pick<Executed, 'decoder' | 'rank'>,
): StepFlops => {
  const { recomputedBlocks, keepsAttention } = plan
  return stepFlops(decoder, { lengths, supervisedTokens, rank, recomputedBlocks, keepsAttention })
}

/** The ceiling: all products of the warm steps at the peak, and nothing else. */
export const speedFigure = (
  bench: string,
  name: string,
  result: TrainingResult,
  executed: Executed,
): Figure => {
  const { best, spread } = tokensPerSecond(result)
  const warm = warmSteps(result)
  const flops = warm.reduce((sum, step) => sum + total(flopsOf(result, step, executed)), 0)
  const tokens = warm.reduce((sum, step) => sum + step.tokens, 0)
  return figure({
    bench,
    case: `${name} speed`,
    value: best,
    unit: 'tokens/s',
    limit: (executed.peakGflops * 1e9 * tokens) / flops,
    limitName: 'FLOP ceiling',
    spread,
  })
}

/** FLOPs of all executed products ÷ time of the whole step, beside the peak. */
export const productsFigure = (
  bench: string,
  name: string,
  result: TrainingResult,
  executed: Executed,
): Figure => {
  const times = warmSteps(result).map((step) => step.ms / 1000 / total(flopsOf(result, step, executed)))
  const { best, spread } = repeated(times)
  return figure({
    bench,
    case: `${name} products`,
    value: 1e-9 / best,
    unit: 'GFLOP/s',
    limit: executed.peakGflops,
    limitName: 'FMA peak',
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
