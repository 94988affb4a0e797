// `synthetic`: peak memory of QLoRA steps of a model of Llama-7B's shape beside its weights and what is trained.
// bench/synthetic is the program, which makes the weights; this file builds, runs and reads it.

import { join } from 'node:path'
import { type Benchmark, figure, type Line, type World } from './figure.js'
import { root } from './places.js'
import { outputOf } from './process.js'

/** What the program prints. */
export interface SyntheticStep {
  blocks: number
  isa: string
  load_s: number
  step_s: number
  weight_bytes: number
  /** Adapter, gradients and optimizer's states. */
  trained_bytes: number
  /** Before the first step. */
  load_peak_rss_bytes: number
  peak_rss_bytes: number
  planned_peak_bytes: number
}

/** What a step may need beside weights and training. */
const surplusMax = 600 * 2 ** 20

export const syntheticLines = (step: SyntheticStep): Line[] => {
  const bench = 'synthetic'
  const held = step.weight_bytes + step.trained_bytes
  const surplus = step.peak_rss_bytes - held
  const mib = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MiB`
  const peak = { bench, value: step.peak_rss_bytes, unit: 'bytes' } as const
  return [
    figure({
      ...peak,
      case: `${step.blocks} blocks, 512 tokens`,
      limit: held + surplusMax,
      limitName: 'weights + training + 600 MiB',
      fault: surplus <= surplusMax ? null : 'over the limit',
    }),
    figure({
      ...peak,
      case: 'beside the plan',
      limit: step.planned_peak_bytes,
      limitName: 'planned',
    }),
    {
      kind: 'note',
      bench,
      text:
        `weights as stored ${mib(step.weight_bytes)}, adapter, gradients and states ${mib(step.trained_bytes)}, ` +
        `beside them ${mib(surplus)}; after loading ${mib(step.load_peak_rss_bytes)}; ` +
        `loaded in ${step.load_s.toFixed(0)} s, step in ${step.step_s.toFixed(0)} s (${step.isa})`,
    },
  ]
}

async function* run({ log }: World): AsyncGenerator<Line> {
  await outputOf('cargo', ['build', '--release', '--quiet', '--workspace'])
  log('synthetic: 32 blocks, 4.5 GiB')
  const program = join(root, 'target', 'release', 'lora-train-synthetic')
  yield* syntheticLines(JSON.parse(await outputOf(program, [])) as SyntheticStep)
}

export const synthetic: Benchmark = {
  name: 'synthetic',
  summary: "peak memory of QLoRA steps of Llama-7B's shape, on weights from a seed",
  run,
}
