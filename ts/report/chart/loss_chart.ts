// The picture of a run's loss as lines, dots and texts at their places: what `svg.ts` and `png.ts` both draw.
// Knows no colour and no file format. Lengths are in pixels of a screen, y downwards.

import { epochBorders, type History, isDrawable, smoothed, smoothingWeight, thinned } from '../history.js'
import { place, type Scale, scaleOf, tickTexts, wholeScaleOf } from './scale.js'

/** What something is drawn as; `palette.ts` says how that looks. */
export type Role = 'grid' | 'border' | 'raw' | 'smooth' | 'evaluation' | 'title' | 'label' | ComparedRole

/** Runs that are compared: two groups of three curves that lie upon each other. */
type ComparedRole = `${'first' | 'second'}${'' | '-wide' | '-narrow'}`

export type Shape =
  /** `clipped`: nothing of it is drawn outside of the plot. */
  | { kind: 'line'; role: Role; points: [x: number, y: number][]; clipped?: true }
  | { kind: 'dot'; role: Role; x: number; y: number }
  | { kind: 'text'; role: Role; x: number; y: number; text: string; anchor: 'start' | 'middle' | 'end' }

export interface Box {
  left: number
  top: number
  right: number
  bottom: number
}

export interface Chart {
  width: number
  height: number
  /** Said where there is no picture. */
  title: string
  /** In the order of drawing: what comes later lies above. */
  shapes: Shape[]
  /** Lines of the loss end here, where they would leave the picture. */
  plot: Box
}

/** Of every chart. */
export const size = { width: 960, height: 440 }
/** Where its curves are. */
export const plot: Box = { left: 64, top: 64, right: size.width - 36, bottom: size.height - 48 }
/** More points than this are not to be told apart. */
const pointsMax = 2 * (plot.right - plot.left)
const titleLength = 88

/** The chart of a history; one that says so where there is no loss. */
export const lossChart = (history: History, title: string): Chart => {
  const text = title.length > titleLength ? `${title.slice(0, titleLength - 1)}…` : title
  const chart = { ...size, plot, title: `Training loss: ${text}` }
  const heading: Shape = { kind: 'text', role: 'title', x: plot.left, y: 26, text, anchor: 'start' }
  const { points, evaluations } = history
  const first = points[0]
  const last = points.at(-1)
  if (!points.some(({ loss }) => isDrawable(loss)) || first === undefined || last === undefined) {
    const middle = { x: (plot.left + plot.right) / 2, y: (plot.top + plot.bottom) / 2 }
    const none: Shape = {
      kind: 'text',
      role: 'label',
      ...middle,
      text: 'no loss was logged',
      anchor: 'middle',
    }
    return { ...chart, shapes: [heading, none] }
  }
  const means = smoothed(
    points.map(({ loss }) => loss),
    smoothingWeight(points.length),
  )
  const x = wholeScaleOf(Math.min(first.step, 0), Math.max(last.step, 1), 8)
  const y = scaleOf(...lossRange(history), 7)
  const at = (step: number, loss: number): [number, number] => [
    place(x, step, plot.left, plot.right),
    place(y, loss, plot.bottom, plot.top),
  ]
  const smooth = points.map(({ step }, i) => ({ step, loss: means[i] ?? Number.NaN }))
  const shapes: Shape[] = [
    heading,
    ...frame(x, y),
    ...borders(history, x),
    ...lines('raw', thinned(points, pointsMax), at),
    ...lines('smooth', thinned(smooth, pointsMax), at),
    ...evaluations
      .filter(({ loss }) => isDrawable(loss))
      .map(({ step, loss }): Shape => {
        const [dotX, dotY] = at(step, loss)
        return {
          kind: 'dot',
          role: 'evaluation',
          x: dotX,
          y: Math.min(plot.bottom, Math.max(plot.top, dotY)),
        }
      }),
    ...legend(evaluations.length > 0),
  ]
  return { ...chart, shapes }
}

/**
 * The range of the loss without the few values that would flatten all others: the first steps of a new task, or the
 * last before a divergence.
 */
export const lossRange = ({ points, evaluations }: History): [from: number, to: number] => {
  const sorted = Float64Array.from(points, ({ loss }) => loss)
    .filter(isDrawable)
    .sort()
  const share = (part: number): number => sorted[Math.round(part * (sorted.length - 1))] ?? 0
  const middle = share(0.98) - share(0.02)
  // An end is cut only where it lies far outside of what nearly all values fill.
  const low = Math.max(share(0), share(0.02) - 1.5 * middle)
  const high = Math.min(share(1), share(0.98) + 1.5 * middle)
  const dots = evaluations
    .map(({ loss }) => loss)
    .filter((loss) => loss > low - middle && loss < high + middle)
  const from = dots.reduce((least, loss) => Math.min(least, loss), low)
  const to = dots.reduce((most, loss) => Math.max(most, loss), high)
  const margin = (to - from) * 0.04
  return [from - margin, to + margin]
}

/** Lines and numbers of the two axes. */
export const frame = (x: Scale, y: Scale): Shape[] => {
  const yTexts = tickTexts(y)
  const xTexts = tickTexts(x)
  return [
    ...y.ticks.flatMap((tick, i): Shape[] => {
      const at = place(y, tick, plot.bottom, plot.top)
      return [
        { kind: 'line', role: 'grid', points: horizontal(at) },
        { kind: 'text', role: 'label', x: plot.left - 8, y: at + 4, text: yTexts[i] ?? '', anchor: 'end' },
      ]
    }),
    { kind: 'line', role: 'grid', points: horizontal(plot.bottom) },
    ...x.ticks.map((tick, i): Shape => {
      const at = place(x, tick, plot.left, plot.right)
      return {
        kind: 'text',
        role: 'label',
        x: at,
        y: plot.bottom + 20,
        text: xTexts[i] ?? '',
        anchor: 'middle',
      }
    }),
    { kind: 'text', role: 'label', x: plot.right, y: plot.bottom + 40, text: 'step', anchor: 'end' },
  ]
}

const horizontal = (y: number): [number, number][] => [
  [plot.left, y],
  [plot.right, y],
]

/** More borders than this would be a grey area. */
const bordersMax = 60
const namedBordersMax = 8

const borders = ({ points }: History, x: Scale): Shape[] => {
  const steps = epochBorders(points)
  if (steps.length > bordersMax) return []
  return steps.flatMap((step, i): Shape[] => {
    const at = place(x, step, plot.left, plot.right)
    const text = `epoch ${i + 2}`
    return [
      {
        kind: 'line',
        role: 'border',
        points: [
          [at, plot.top],
          [at, plot.bottom],
        ],
      },
      ...(steps.length <= namedBordersMax
        ? [{ kind: 'text', role: 'label', x: at + 6, y: plot.top + 12, text, anchor: 'start' } as const]
        : []),
    ]
  })
}

/** A curve; where a value is no number it is interrupted. */
const lines = (
  role: Role,
  values: readonly { step: number; loss: number }[],
  at: (step: number, loss: number) => [number, number],
): Shape[] => {
  const parts: [number, number][][] = [[]]
  for (const { step, loss } of values) {
    if (isDrawable(loss)) parts.at(-1)?.push(at(step, loss))
    else parts.push([])
  }
  return parts.flatMap((points): Shape[] => {
    const [only] = points
    if (points.length === 1 && only !== undefined) return [{ kind: 'dot', role, x: only[0], y: only[1] }]
    return points.length === 0 ? [] : [{ kind: 'line', role, points, clipped: true }]
  })
}

const legend = (hasEvaluations: boolean): Shape[] => {
  const y = 48
  const line = (role: Role, x: number, text: string): Shape[] => [
    {
      kind: 'line',
      role,
      points: [
        [x, y - 4],
        [x + 22, y - 4],
      ],
    },
    { kind: 'text', role: 'label', x: x + 29, y, text, anchor: 'start' },
  ]
  return [
    ...line('raw', plot.left, 'loss'),
    ...line('smooth', plot.left + 82, 'smoothed'),
    ...(hasEvaluations
      ? ([
          { kind: 'dot', role: 'evaluation', x: plot.left + 202, y: y - 4 },
          { kind: 'text', role: 'label', x: plot.left + 213, y, text: 'evaluation', anchor: 'start' },
        ] as const)
      : []),
  ]
}
