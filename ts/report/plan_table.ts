// The memory plan as a table, and the line of trainable parameters. Text in, nothing printed.

import { formatBytes } from '../config/memory.js'
import type { DevicePlan, Plan, PlanBytes } from '../native/contract.js'
import { pythonFloat } from './python_number.js'

const kinds: [key: keyof PlanBytes, label: string][] = [
  ['weights', 'weights'],
  ['adapter', 'adapter'],
  ['gradients', 'gradients'],
  ['optimizer', 'optimizer state'],
  ['activations', 'activations'],
  ['scratch', 'scratch'],
]

/**
 * Lines of the plan: bytes by kind and place, peak and budget, what is computed again, and what would fit where it
 * doesn't. On one device the place stands behind each line; several, and a host beside cards, have a column each.
 */
export const planTable = (plan: Plan): string[] => [
  ...(plan.devices.length > 1 || plan.host !== null ? severalPlaces(plan) : onePlace(plan)),
  ...(plan.countedFrom === 'config' ? ['  counted from config.json alone: the weights are not here'] : []),
  plan.fits ? '  it fits' : '  it does not fit',
  ...recomputation(plan),
  ...(plan.stepSeconds === null ? [] : [`  ${formatSeconds(plan.stepSeconds)} a step`]),
  ...(plan.suggestions.length === 0 ? [] : ['It would fit with:']),
  ...plan.suggestions.map((suggestion) => `  ${suggestion}`),
]

/** `device 2 needs 25.1 GiB of memory and has 24.0 GiB`: the first that is too small; of one device, the run. */
export const shortage = ({ devices, peakBytes, budgetBytes }: Plan): string => {
  const at = devices.findIndex((device) => device.peakBytes > device.budgetBytes)
  const device = devices.length > 1 ? devices[at] : undefined
  const [who, needs, has] =
    device === undefined
      ? ['the run', peakBytes, budgetBytes]
      : [`device ${at + 1}`, device.peakBytes, device.budgetBytes]
  return `${who} needs ${formatBytes(Number(needs))} of memory and has ${formatBytes(Number(has))}`
}

const onePlace = ({ bytes, mapped, peakBytes, budgetBytes }: Plan): string[] => {
  const rows = kinds.flatMap(([key, label]): string[][] => {
    const inFiles = key === 'weights' || key === 'optimizer' ? mapped[key] : 0
    const inMemory = bytes[key] - inFiles
    const places = [
      ...(inMemory > 0 || inFiles === 0 ? [[formatBytes(inMemory), 'memory']] : []),
      ...(inFiles > 0 ? [[formatBytes(inFiles), 'mapped file']] : []),
    ]
    return places.map((place, index) => [index === 0 ? label : '', ...place])
  })
  const ends = [
    ['peak', formatBytes(peakBytes), ''],
    ['budget', formatBytes(budgetBytes), 'one device'],
  ]
  const table = [...rows, ...ends]
  const widths = [0, 1].map((column) => widest(table, column))
  const line = ([label = '', size = '', where = '']: string[]): string =>
    `  ${label.padEnd(widths[0] ?? 0)}  ${size.padStart(widths[1] ?? 0)}  ${where}`.trimEnd()
  return ['Memory plan', ...table.map(line)]
}

const none = '–'

const severalPlaces = ({ devices, host, nBlocks, tiedHead }: Plan): string[] => {
  const name = (index: number): string => (devices.length > 1 ? `device ${index + 1}` : 'card')
  const sized = (bytes: number): string => (bytes === 0 ? none : formatBytes(bytes))
  const hostPeak = host === null ? 0 : kinds.reduce((sum, [key]) => sum + host[key], 0)
  const table: string[][] = [
    ['', ...devices.map((_, index) => name(index)), ...(host ? ['host'] : [])],
    ...kinds.map(([key, label]) => [
      label,
      ...devices.map(({ bytes }) => sized(bytes[key])),
      ...(host ? [sized(host[key])] : []),
    ]),
    ['peak', ...devices.map((device) => formatBytes(device.peakBytes)), ...(host ? [sized(hostPeak)] : [])],
    ['budget', ...devices.map((device) => formatBytes(device.budgetBytes)), ...(host ? [none] : [])],
  ]
  const labels = widest(table, 0)
  const sizes = Math.max(...table.flatMap((row) => row.slice(1).map(({ length }) => length)))
  const lines = table.map(
    ([label = '', ...cells]) =>
      `  ${label.padEnd(labels)}${cells.map((cell) => `  ${cell.padStart(sizes)}`).join('')}`,
  )
  return [
    'Memory plan',
    ...lines,
    ...(devices.length > 1
      ? devices.map((device, index) => `  ${name(index)}: ${heldBy(device, index === devices.length - 1)}`)
      : []),
    ...(devices.length > 1 && tiedHead && nBlocks > 0
      ? ['  the head is tied to the embedding, and so on device 1: the last block’s output goes back to it']
      : []),
    ...(host === null
      ? []
      : [`  beside ${devices.length > 1 ? 'them' : 'it'} the host needs ${formatBytes(hostPeak)}`]),
  ]
}

const heldBy = ({ firstBlock, nBlocks, embedding, head }: DevicePlan, isLast: boolean): string =>
  [
    ...(embedding ? ['embedding'] : []),
    nBlocks === 0
      ? 'no block'
      : nBlocks === 1
        ? `block ${firstBlock + 1}`
        : `blocks ${firstBlock + 1} to ${firstBlock + nBlocks}`,
    ...(isLast ? ['final norm'] : []),
    ...(head ? ['head'] : []),
  ].join(', ')

const widest = (table: readonly (readonly string[])[], column: number): number =>
  Math.max(...table.map((row) => row[column]?.length ?? 0))

const recomputation = (plan: Plan): string[] =>
  plan.recomputedBlocks === 0 ? [] : [`  computed again in backward: ${recomputedText(plan)}`]

/** `29 of 30 blocks, but for attention` */
export const recomputedText = ({ recomputedBlocks, keepsAttention, nBlocks }: Plan): string =>
  `${recomputedBlocks} of ${nBlocks} blocks${keepsAttention ? ', but for attention' : ''}`

const formatSeconds = (seconds: number): string =>
  seconds < 0.001
    ? 'under 1 ms'
    : seconds < 1
      ? `about ${Math.round(seconds * 1000)} ms`
      : seconds < 120
        ? `about ${seconds.toFixed(1)} s`
        : seconds < 7200
          ? `about ${Math.round(seconds / 60)} min`
          : `about ${(seconds / 3600).toFixed(1)} h`

/** `Trainable params: N || all_params: M || trainable%: p`, numbers plain, percent as Python prints it. */
export const trainableLine = ({
  trainableParams,
  allParams,
}: Pick<Plan, 'trainableParams' | 'allParams'>): string =>
  `Trainable params: ${trainableParams} || all_params: ${allParams} || ` +
  `trainable%: ${pythonFloat((100 * trainableParams) / allParams)}`
