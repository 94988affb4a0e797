// Our matrix product beside candle's and PyTorch's, and with NF4 weights beside bf16: measured in turn, in one run,
// on the same number of threads. crates/engine/examples/products.rs and bench/interop/gemm.py measure.

import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { figure, type Line, repeated } from './figure.js'
import { pythonOf, root } from './places.js'
import { type Answering, answering, keepsMemory } from './process.js'

const bench = 'gemm'

/** Of a weight and its input. */
export interface Shape {
  rows: number
  outputs: number
  inputs: number
}

/** 2048³, then SmolLM2's linears and its head, each with the rows of one sequence of 512 and of four. */
const shapes: readonly Shape[] = [
  { rows: 2048, outputs: 2048, inputs: 2048 },
  ...[512, 2048].flatMap((rows) =>
    [
      [576, 576],
      [192, 576],
      [1536, 576],
      [576, 1536],
      [49152, 576],
    ].map(([outputs = 0, inputs = 0]) => ({ rows, outputs, inputs })),
  ),
]

const ourNames = ['ours-f32', 'ours-bf16', 'ours-nf4', 'ours-bf16-dx', 'ours-nf4-dx', 'candle-f32'] as const
const torchNames = ['torch-f32', 'torch-bf16'] as const
export type Name = (typeof ourNames)[number] | (typeof torchNames)[number]

/** Each product is asked for so often, in turn with the others, and each time for so long. */
const rounds = 3
const secondsOfRound = 0.1

/** What a program answers: of the repetitions of one round. */
export interface Round {
  best_s: number
  median_s: number
}
/** The rounds of each product that could run. */
export type Rounds = ReadonlyMap<Name, readonly Round[]>

/** What stands beside what. `dx` is `dy · w`, all others are `y = x · wᵀ`. */
const pairs: readonly { what: string; ours: Name; limit: Name; limitName: string }[] = [
  { what: 'f32', ours: 'ours-f32', limit: 'candle-f32', limitName: 'candle' },
  { what: 'f32', ours: 'ours-f32', limit: 'torch-f32', limitName: 'PyTorch' },
  { what: 'bf16', ours: 'ours-bf16', limit: 'torch-bf16', limitName: 'PyTorch' },
  { what: 'nf4', ours: 'ours-nf4', limit: 'ours-bf16', limitName: 'ours in bf16' },
  { what: 'nf4 dx', ours: 'ours-nf4-dx', limit: 'ours-bf16-dx', limitName: 'ours in bf16' },
]

/** The figures of a shape: the best repetition of all rounds, and how much longer the median round's median took. */
export const shapeLines = ({ rows, outputs, inputs }: Shape, measured: Rounds): Line[] => {
  const gflop = 2e-9 * rows * outputs * inputs
  const timesOf = (name: Name): { best: number; spread: number } | null => {
    const found = measured.get(name)
    if (found === undefined) return null
    const best = Math.min(...found.map(({ best_s }) => best_s))
    const medians = found.map(({ median_s }) => median_s)
    const typical = repeated(medians)
    return { best, spread: (typical.best * (1 + (typical.spread ?? 0))) / best - 1 }
  }
  return pairs.flatMap(({ what, ours: name, limit: other, limitName }) => {
    const [ours, limit] = [timesOf(name), timesOf(other)]
    if (ours === null || limit === null) return []
    return figure({
      bench,
      case: `${rows}x${outputs}x${inputs} ${what}`,
      value: gflop / ours.best,
      unit: 'GFLOP/s',
      limit: gflop / limit.best,
      limitName,
      spread: Math.max(ours.spread, limit.spread),
    })
  })
}

/** Asks for each product in turn, so that each sees the same moments of a busy machine. */
const measure = async (
  { rows, outputs, inputs }: Shape,
  programs: readonly (readonly [Answering, readonly Name[]])[],
): Promise<Rounds> => {
  const measured = new Map<Name, Round[]>()
  for (let round = 0; round < rounds; round++) {
    for (const [program, names] of programs) {
      for (const name of names) {
        const answer = await program.ask([name, rows, outputs, inputs, secondsOfRound].join(' '))
        measured.set(name, [...(measured.get(name) ?? []), JSON.parse(answer) as Round])
      }
    }
  }
  return measured
}

/** Cargo has built the examples. */
export async function* besideOthers(log: (text: string) => void): AsyncGenerator<Line> {
  const threads = String(availableParallelism())
  // candle takes its threads from this; memory that was freed once stays, for it makes a new output each time.
  const env = { RAYON_NUM_THREADS: threads, MIMALLOC_PURGE_DELAY: '-1' }
  const products = answering(join(root, 'target', 'release', 'examples', 'products'), [], env)
  const python = pythonOf()
  const torch =
    python === null
      ? null
      : answering(python, [join(root, 'bench', 'interop', 'gemm.py'), '--threads', threads], keepsMemory)
  if (torch === null) {
    yield { kind: 'skipped', bench, case: 'PyTorch', why: 'PEER_PYTHON names no Python with torch' }
  }
  const programs: [Answering, readonly Name[]][] = [[products, ourNames]]
  if (torch !== null) programs.push([torch, torchNames])
  try {
    for (const shape of shapes) {
      log(`gemm: ${shape.rows}x${shape.outputs}x${shape.inputs}, in turn`)
      yield* shapeLines(shape, await measure(shape, programs))
    }
  } finally {
    for (const [program] of programs) program.end()
  }
  const text =
    'rows × outputs × inputs on all threads; the limit is the other’s figure. Ours reads f32 inputs and writes f32 outputs, as ' +
    'training does; PyTorch’s bf16 has both in 16 bits. candle has no bf16 product on the CPU'
  yield { kind: 'note', bench, text }
}
