// Lines of a benchmark as an aligned table for people. Prints nothing.

import { formatBytes } from '../ts/config/memory.js'
import { type Figure, type Line, noisyFrom, type Unit } from './figure.js'

const columns = ['case', 'measured', 'limit', 'ratio', 'spread', ''] as const
/** Numbers are aligned at their right end. */
const alignedRight = new Set<number>([1, 2, 3, 4])

/** What is counted is a whole number. */
const counted: ReadonlySet<Unit> = new Set<Unit>(['texts', 'scalars'])

/** `12.3 GFLOP/s`, `1,234 tokens/s`, `1.5 GiB`: three digits that count, as far as the unit has them. */
export const quantity = (value: number, unit: Unit): string => {
  if (unit === 'bytes') return formatBytes(value)
  if (unit === 'nats') return `${value.toExponential(1)} ${unit}`
  if (counted.has(unit)) return `${value} ${unit}`
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2
  const number = value.toLocaleString('en-US', {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  })
  return `${number} ${unit}`
}

const percent = (share: number): string => `${(100 * share).toFixed(0)} %`

const cells = ({
  case: name,
  value,
  unit,
  limit,
  limitName,
  ratio,
  spread,
  noisy,
  fault,
}: Figure): string[] => [
  name,
  quantity(value, unit),
  `${quantity(limit, unit)} ${limitName}`,
  ratio.toFixed(2),
  spread === null ? '' : percent(spread),
  [noisy ? 'noisy' : '', fault ?? ''].filter((word) => word !== '').join(', '),
]

/** A figure in a line of its own. */
export const inShort = (line: Figure): string =>
  `${line.bench}: ${cells(line)
    .filter((cell) => cell !== '')
    .join(', ')}`

/** The table, then what was left out, then the notes, then a warning where the machine was not quiet. */
export const table = (lines: readonly Line[]): string[] => {
  const figures = lines.filter((line) => line.kind === 'figure')
  const rows = figures.length > 0 ? [[...columns], ...figures.map(cells)] : []
  const widths = columns.map((_, column) => Math.max(0, ...rows.map((row) => row[column]?.length ?? 0)))
  const aligned = rows.map((row) =>
    row
      .map((cell, at) =>
        alignedRight.has(at) ? cell.padStart(widths[at] ?? 0) : cell.padEnd(widths[at] ?? 0),
      )
      .join('  ')
      .trimEnd(),
  )
  const skipped = lines.flatMap((line) =>
    line.kind === 'skipped' ? [`left out: ${line.case} (${line.why})`] : [],
  )
  const notes = lines.flatMap((line) => (line.kind === 'note' ? [line.text] : []))
  return [...aligned, ...skipped, ...notes, ...noiseWarning(figures)]
}

/** What the spread of repeated measurements says about the machine. */
const noiseWarning = (figures: readonly Figure[]): string[] => {
  const repeatedFigures = figures.filter(({ spread }) => spread !== null)
  const noisy = repeatedFigures.filter((line) => line.noisy).length
  if (noisy === 0) return []
  return [
    `NOISY MACHINE: in ${noisy} of ${repeatedFigures.length} figures the median is over ${percent(noisyFrom)} slower than the best; ` +
      'something else runs here. Ratios count, absolute figures don’t.',
  ]
}
