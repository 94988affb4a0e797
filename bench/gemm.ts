// `gemm`: the matrix product beside the FMA peak of the same instruction set, at 2048³ and SmolLM2's shapes, then
// beside candle's and PyTorch's (gemm_peers.ts). crates/kernels/examples/gemm_bench.rs measures the first.

import { join } from 'node:path'
import { type Benchmark, figure, type Line, type World } from './figure.js'
import { besideOthers } from './gemm_peers.js'
import { examine, isaLine } from './machine.js'
import { root } from './places.js'
import { jsonLines, outputOf } from './process.js'

/** What gemm_bench prints for a case. */
interface Product {
  case: string
  isa: string
  precision: 'F32' | 'Bf16'
  gflops: number
  peak_gflops: number
  spread: number
}
type LeftOut = Pick<Product, 'case' | 'isa' | 'precision'> & { skipped: string }

/** 2048³; 512 and 2,048 rows of SmolLM2's linears and of its head. */
const cases = ['square/', 'forward/', 'head/']

/** A case's name tells what it stresses: rows × outputs × inputs, after the kind of product. */
const caseName = ({ case: name, isa, precision }: Pick<Product, 'case' | 'isa' | 'precision'>): string =>
  `${name} ${precision.toLowerCase()} ${isa}`

/** One line of gemm_bench as a line of ours. */
export const lineOf = (product: Product | LeftOut): Line => {
  if ('skipped' in product) {
    return { kind: 'skipped', bench: 'gemm', case: caseName(product), why: product.skipped }
  }
  return figure({
    bench: 'gemm',
    case: caseName(product),
    value: product.gflops,
    unit: 'GFLOP/s',
    limit: product.peak_gflops,
    limitName: 'FMA peak',
    spread: product.spread,
  })
}

async function* run({ engine, log }: World): AsyncGenerator<Line> {
  const { isas } = await examine(engine)
  // The packages and features of `npm run golden`, so that cargo builds no dependency a second time.
  await outputOf('cargo', ['build', '--release', '--quiet', '--workspace', '--examples'])
  const program = join(root, 'target', 'release', 'examples', 'gemm_bench')
  for (const isa of [...isas].reverse()) {
    log(`gemm: ${isa}`)
    const products = jsonLines<Product | LeftOut>(await outputOf(program, ['--json', '--isa', isa, ...cases]))
    yield* products.map(lineOf)
  }
  yield { kind: 'note', bench: 'gemm', text: isaLine(isas) }
  yield* besideOthers(log)
}

export const gemm: Benchmark = {
  name: 'gemm',
  summary: 'GFLOP/s of the matrix product beside the FMA peak of the same set, candle’s and PyTorch’s',
  run,
}
