// Scales: from numbers to places on an axis, ticks at round numbers, and how these are written.

export interface Scale {
  min: number
  max: number
  ticks: number[]
}

/** A scale that covers `min` to `max` and has about `count` ticks, at 1, 2 or 5 times a power of ten. */
export const scaleOf = (min: number, max: number, count: number): Scale => {
  const span = max - min > 0 ? max - min : Math.max(Math.abs(max) * 0.1, 1e-12)
  const [from, to] = max - min > 0 ? [min, max] : [min - span / 2, max + span / 2]
  const rough = span / count
  const power = 10 ** Math.floor(Math.log10(rough))
  const distance = power * (([1, 2, 5].find((factor) => factor * power >= rough * 0.75) ?? 10) as number)
  const ticks: number[] = []
  for (let i = Math.ceil(from / distance - 1e-9); i * distance <= to + distance * 1e-9; i++) {
    // Multiplying keeps 0.3 from becoming 0.30000000000000004 for as long as the digits are cut.
    ticks.push(Number((i * distance).toPrecision(12)))
  }
  return { min: from, max: to, ticks }
}

/** Ticks of whole numbers only: steps have no halves. */
export const wholeScaleOf = (min: number, max: number, count: number): Scale => {
  const scale = scaleOf(min, max, count)
  return { ...scale, ticks: scale.ticks.filter(Number.isInteger) }
}

/** Where `value` lies between `from` and `to`. */
export const place = ({ min, max }: Scale, value: number, from: number, to: number): number =>
  from + ((value - min) / (max - min)) * (to - from)

/** The ticks' texts, all with the digits that tell them apart: `0.85`, `1,200`, `2e-5`. */
export const tickTexts = ({ ticks }: Scale): string[] => {
  const distance = Math.abs((ticks[1] ?? 1) - (ticks[0] ?? 0))
  const largest = Math.max(...ticks.map(Math.abs))
  if (largest > 0 && (largest < 1e-3 || largest >= 1e9)) {
    return ticks.map((tick) => (tick === 0 ? '0' : String(Number(tick.toPrecision(3)).toExponential())))
  }
  const digits = Math.min(10, Math.max(0, -Math.floor(Math.log10(distance) + 1e-9)))
  return ticks.map((tick) => grouped(tick.toFixed(digits)))
}

/** `12,345.6` */
const grouped = (text: string): string => text.replace(/\B(?<!\.\d*)(?=(\d{3})+(?!\d))/g, ',')
