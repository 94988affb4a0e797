// The picture of several runs' smoothed losses, as lines, dots and texts at their places. Draws nothing itself:
// `ts/report/chart` turns it into a file, as it does with a run's own loss.

import { type Chart, frame, plot, type Role, type Shape, size } from '../ts/report/chart/loss_chart.js'
import { place, scaleOf, wholeScaleOf } from '../ts/report/chart/scale.js'
import type { Base, Mode } from './curves.js'

export interface NamedCurve {
  base: Base
  mode: Mode
  /** A step each. */
  smooth: readonly number[]
}

/** A base is a hue. What should coincide is drawn wide below and narrow above, so that both are seen. */
const roles: Record<Base, Record<Mode, Role>> = {
  plain: { f32: 'first-wide', bf16: 'first', 'bf16 8-bit AdamW': 'first-narrow' },
  nf4: { f32: 'second-wide', bf16: 'second', 'bf16 8-bit AdamW': 'second-narrow' },
}

const title = 'Smoothed loss of SmolLM2-135M on German rows, LoRA r 16'

/** Of at least one curve of at least two steps. */
export const curvesChart = (curves: readonly NamedCurve[]): Chart => {
  const losses = curves.flatMap(({ smooth }) => smooth)
  const [low, high] = [Math.min(...losses), Math.max(...losses)]
  const margin = 0.04 * (high - low)
  const y = scaleOf(low - margin, high + margin, 7)
  const x = wholeScaleOf(0, Math.max(...curves.map(({ smooth }) => smooth.length)), 8)
  const lines = curves.map(
    ({ base, mode, smooth }): Shape => ({
      kind: 'line',
      role: roles[base][mode],
      points: smooth.map((loss, i) => [
        place(x, i + 1, plot.left, plot.right),
        place(y, loss, plot.bottom, plot.top),
      ]),
      clipped: true,
    }),
  )
  const heading: Shape = { kind: 'text', role: 'title', x: plot.left, y: 26, text: title, anchor: 'start' }
  return { ...size, plot, title, shapes: [heading, ...frame(x, y), ...lines, ...legend(curves)] }
}

/** Names side by side above the plot, each behind a piece of its line. */
const legend = (curves: readonly NamedCurve[]): Shape[] => {
  const width = (plot.right - plot.left) / curves.length
  return curves.flatMap(({ base, mode }, i): Shape[] => {
    const left = plot.left + i * width
    const points: [number, number][] = [
      [left, 44],
      [left + 18, 44],
    ]
    const text = `${base} ${mode}`.replace(' AdamW', '')
    return [
      { kind: 'line', role: roles[base][mode], points },
      { kind: 'text', role: 'label', x: left + 25, y: 48, text, anchor: 'start' },
    ]
  })
}
