// `curves`: the loss of SmolLM2 over 200 steps on the German rows, in f32 and in what is cheaper, on one plot.
// Writes docs/curves.json after each run, and docs/curves.svg from it. Says how far each lies from f32 on its base.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ConfigInput } from '../ts/config/index.js'
import { svg } from '../ts/report/chart/svg.js'
import { smoothed, smoothingWeight } from '../ts/report/history.js'
import { curvesChart } from './curves_chart.js'
import { type Benchmark, figure, type Line, type World } from './figure.js'
import type { Dtype } from './machine.js'
import { germanRows, noShared, noSmollm2, root, smollm2 } from './places.js'
import { measureTraining } from './process.js'
import { loraConfig, quantization } from './train.js'

const steps = 200
const rowsPerStep = 8
/** A smoothed loss may lie this far from that of f32 on the same base. */
const distanceMax = 0.03

export type Base = 'plain' | 'nf4'
export type Mode = 'f32' | 'bf16' | 'bf16 8-bit AdamW'

/** One run's losses, a step each. */
export interface Curve {
  base: Base
  mode: Mode
  losses: number[]
}

/** The first of a base is what the others of it are compared with. */
const runs: readonly Pick<Curve, 'base' | 'mode'>[] = (['plain', 'nf4'] as const).flatMap((base) =>
  (['f32', 'bf16', 'bf16 8-bit AdamW'] as const).map((mode) => ({ base, mode })),
)

/** Same seed, rows and order for all. */
const configOf = (model: string, { base, mode }: Pick<Curve, 'base' | 'mode'>): ConfigInput => {
  const dtype: Dtype = mode === 'f32' ? 'f32' : 'bf16'
  const bnb_4bit_compute_dtype = dtype === 'f32' ? 'float32' : 'bfloat16'
  return {
    ...loraConfig(model, dtype),
    per_device_train_batch_size: rowsPerStep,
    optim: mode === 'bf16 8-bit AdamW' ? 'adamw_8bit' : 'adamw_torch',
    ...(base === 'nf4' ? { quantization: { ...quantization, bnb_4bit_compute_dtype } } : {}),
  }
}

/** As loss.svg smooths. */
const smoothedLosses = ({ losses }: Curve): number[] => smoothed(losses, smoothingWeight(losses.length))

/** The largest distance between two smoothed curves, over all steps. Throws where their lengths differ. */
export const distance = (curve: Curve, reference: Curve): number => {
  const [ours, theirs] = [smoothedLosses(curve), smoothedLosses(reference)]
  if (ours.length !== theirs.length) throw new RangeError('the curves have different numbers of steps')
  return ours.reduce((most, loss, step) => Math.max(most, Math.abs(loss - (theirs[step] ?? Number.NaN))), 0)
}

/** Of each curve the distance from f32 on its base, and where its smoothed loss ends. */
export const curveLines = (curves: readonly Curve[]): Line[] =>
  curves.flatMap((curve): Line[] => {
    const reference = curves.find(({ base, mode }) => base === curve.base && mode === 'f32')
    if (reference === undefined) return []
    const name = `${curve.base} ${curve.mode}`
    const value = distance(curve, reference)
    const end = smoothedLosses(curve).at(-1) ?? Number.NaN
    const apart = figure({
      bench: 'curves',
      case: name,
      value,
      unit: 'nats',
      limit: distanceMax,
      limitName: `from ${curve.base} f32`,
      fault: value <= distanceMax ? null : 'too far',
    })
    return [apart, { kind: 'note', bench: 'curves', text: `${name}: ends at ${end.toFixed(4)}` }]
  })

const docs = join(root, 'docs')

const readCurves = (): Curve[] => JSON.parse(readFileSync(join(docs, 'curves.json'), 'utf8'))

/** The plot of the curves, as docs/curves.svg holds it. */
export const curvesSvg = (curves: readonly Curve[]): string =>
  svg(curvesChart(curves.map((curve) => ({ ...curve, smooth: smoothedLosses(curve) }))))

/** Ten digits tell every two losses of f32 apart, and a curve stands on a line. */
const written = (curves: readonly Curve[]): string => {
  const lines = curves.map(({ losses, ...run }) =>
    JSON.stringify({ ...run, losses: losses.map((loss) => Number(loss.toPrecision(10))) }),
  )
  return `[\n${lines.join(',\n')}\n]\n`
}

async function* run({ log }: World): AsyncGenerator<Line> {
  const bench = 'curves'
  const [model, path] = [smollm2(), germanRows()]
  if (model === null) return yield { kind: 'skipped', bench, case: 'all', why: noSmollm2 }
  if (path === null) return yield { kind: 'skipped', bench, case: 'all', why: noShared }
  mkdirSync(docs, { recursive: true })
  const curves: Curve[] = []
  for (const run of runs) {
    log(`curves: ${run.base} ${run.mode}, ${steps} steps`)
    const job = { config: configOf(model, run), steps, data: { kind: 'file', path } } as const
    const result = await measureTraining(job)
    curves.push({ ...run, losses: result.steps.map(({ loss }) => loss) })
    // After each: what is stopped halfway leaves what it has.
    writeFileSync(join(docs, 'curves.json'), written(curves))
  }
  writeFileSync(join(docs, 'curves.svg'), curvesSvg(readCurves()))
  yield* curveLines(curves)
  const text = `SmolLM2-135M, LoRA r 16 on all linears, ${rowsPerStep} German rows a step, learning rate 2e-4; smoothed as loss.svg smooths. docs/curves.svg is the plot`
  yield { kind: 'note', bench, text }
}

export const curves: Benchmark = {
  name: 'curves',
  summary: `the loss over ${steps} steps in six precisions, each beside f32 on its base (half an hour)`,
  onlyNamed: true,
  run,
}
