// The memory plan as a table, and the line of trainable parameters. Text in, nothing printed.

import { formatBytes } from '../config/memory.js'
import type { Plan } from '../native/contract.js'
import { pythonFloat } from './python_number.js'

const kinds: [key: keyof Plan['bytes'], label: string][] = [
  ['weights', 'weights'],
  ['adapter', 'adapter'],
  ['gradients', 'gradients'],
  ['optimizer', 'optimizer state'],
  ['activations', 'activations'],
  ['scratch', 'scratch'],
]

/** Lines of the plan: bytes by kind, peak and budget, what is computed again, and what would fit where it doesn't. */
export const planTable = (plan: Plan): string[] => {
  const rows: [label: string, bytes: number][] = [
    ...kinds.map(([key, label]): [string, number] => [label, plan.bytes[key]]),
    ['peak', plan.peakBytes],
    ['budget', plan.budgetBytes],
  ]
  const labelWidth = Math.max(...rows.map(([label]) => label.length))
  const valueWidth = Math.max(...rows.map(([, bytes]) => formatBytes(bytes).length))
  return [
    'Memory plan',
    ...rows.map(
      ([label, bytes]) => `  ${label.padEnd(labelWidth)}  ${formatBytes(bytes).padStart(valueWidth)}`,
    ),
    plan.fits ? '  it fits' : '  it does not fit',
    ...recomputation(plan),
    ...(plan.stepSeconds === null ? [] : [`  ${formatSeconds(plan.stepSeconds)} a step`]),
    ...(plan.suggestions.length === 0 ? [] : ['It would fit with:']),
    ...plan.suggestions.map((suggestion) => `  ${suggestion}`),
  ]
}

const recomputation = ({ recomputedBlocks, nBlocks }: Plan): string[] =>
  recomputedBlocks === 0 ? [] : [`  ${recomputedBlocks} of ${nBlocks} blocks are computed again in backward`]

const formatSeconds = (seconds: number): string =>
  seconds < 0.001
    ? 'under 1 ms'
    : seconds < 1
      ? `about ${Math.round(seconds * 1000)} ms`
      : `about ${seconds.toFixed(1)} s`

/** `Trainable params: N || all_params: M || trainable%: p`, numbers plain, percent as Python prints it. */
export const trainableLine = ({
  trainableParams,
  allParams,
}: Pick<Plan, 'trainableParams' | 'allParams'>): string =>
  `Trainable params: ${trainableParams} || all_params: ${allParams} || ` +
  `trainable%: ${pythonFloat((100 * trainableParams) / allParams)}`
