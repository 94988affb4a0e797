// `optimizer`: parameters per second of AdamW beside a loop that moves the same bytes, and 8 bits beside f32.
// crates/kernels/examples/optimizer_bench.rs measures; this file builds, runs and reads it.

import { join } from 'node:path'
import { type Benchmark, figure, type Line, type World } from './figure.js'
import { examine } from './machine.js'
import { root } from './places.js'
import { jsonLines, outputOf } from './process.js'

/** What optimizer_bench prints for a case. */
export interface Update {
  case: string
  isa: string
  mparams_per_s: number
  limit_mparams_per_s: number
  /** Bandwidth of `a[i] = b[i] + s·c[i]` in the same run, the reading of a's lines counted. */
  triad_gb_per_s: number
  /** Read and written for each parameter. */
  bytes: number
  spread: number
}

/** One line of optimizer_bench as lines of ours: beside the loop of the same bytes, and beside the triad. */
export const updateLines = ({ case: name, isa, bytes, spread, ...rate }: Update): Line[] => {
  const given = {
    bench: 'optimizer',
    case: `${name} ${isa}`,
    value: rate.mparams_per_s,
    unit: 'M params/s',
    spread,
  } as const
  return [
    figure({ ...given, limit: rate.limit_mparams_per_s, limitName: `${bytes} bytes each` }),
    figure({ ...given, limit: (rate.triad_gb_per_s * 1000) / bytes, limitName: `${bytes} bytes of triad` }),
  ]
}

/** How many parameters 8-bit AdamW updates while f32 updates one. */
export const ratioLine = (updates: readonly Update[]): Line[] => {
  const rate = (name: string): number | undefined =>
    updates.find((update) => update.case === name)?.mparams_per_s
  const [plain, eight] = [rate('adamw'), rate('adamw8bit')]
  if (plain === undefined || eight === undefined) return []
  const text = `8-bit AdamW: ${(eight / plain).toFixed(2)} × the parameters per second of f32`
  return [{ kind: 'note', bench: 'optimizer', text }]
}

async function* run({ engine, log }: World): AsyncGenerator<Line> {
  const { isa } = await examine(engine)
  await outputOf('cargo', ['build', '--release', '--quiet', '--workspace', '--examples'])
  log(`optimizer: ${isa}`)
  const program = join(root, 'target', 'release', 'examples', 'optimizer_bench')
  const updates = jsonLines<Update>(await outputOf(program, ['--json', '--isa', isa, '--seconds', '4']))
  yield* updates.flatMap(updateLines)
  yield* ratioLine(updates)
}

export const optimizer: Benchmark = {
  name: 'optimizer',
  summary: "parameters per second of AdamW's step beside a loop that moves the same bytes",
  run,
}
