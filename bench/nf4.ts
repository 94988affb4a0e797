// `nf4`: unpacking NF4 beside memcpy and beside writing alone, quantising beside a loop over the same bytes, both beside
// bitsandbytes on the CPU. crates/kernels/examples/nf4_bench.rs and bench/interop/nf4.py measure; this file builds, runs
// and reads them.

import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { type Benchmark, figure, type Line, type World } from './figure.js'
import { examine } from './machine.js'
import { pythonOf, root } from './places.js'
import { jsonLines, keepsMemory, outputOf } from './process.js'

const bench = 'nf4'

/** What nf4.py prints for a case. */
export interface CodecRate {
  case: string
  value: number
  unit: 'GB/s' | 'M values/s'
}

/** What nf4_bench prints for a case. */
export interface Codec extends CodecRate {
  isa: string
  threads: number
  limit: number
  limit_name: string
  spread: number
}

const onThreads = (threads: number): string => `${threads} ${threads === 1 ? 'thread' : 'threads'}`

/** One line of nf4_bench as a line of ours. */
export const codecLine = ({ case: name, isa, threads, value, unit, limit, spread, ...rest }: Codec): Line =>
  figure({
    bench,
    case: `${name}, ${onThreads(threads)} ${isa}`,
    value,
    unit,
    limit,
    limitName: rest.limit_name,
    spread,
  })

/** Ours on all threads beside bitsandbytes' figure of the same case. */
export const besideBitsandbytes = (ours: readonly Codec[], theirs: readonly CodecRate[]): Line[] => {
  const threads = Math.max(...ours.map((codec) => codec.threads))
  return ours
    .filter((codec) => codec.threads === threads)
    .flatMap((codec) =>
      theirs
        .filter((rate) => rate.case === codec.case)
        .map(({ value: limit }) => codecLine({ ...codec, limit, limit_name: 'bitsandbytes' })),
    )
}

async function* run({ engine, log }: World): AsyncGenerator<Line> {
  const { isa } = await examine(engine)
  await outputOf('cargo', ['build', '--release', '--quiet', '--workspace', '--examples'])
  log(`nf4: ${isa}`)
  const program = join(root, 'target', 'release', 'examples', 'nf4_bench')
  const ours = jsonLines<Codec>(await outputOf(program, ['--json', '--isa', isa]))
  yield* ours.map(codecLine)
  const python = pythonOf()
  if (python === null) {
    const why = 'PEER_PYTHON names no Python with torch and bitsandbytes'
    return yield { kind: 'skipped', bench, case: 'bitsandbytes', why }
  }
  log('nf4: bitsandbytes')
  const script = join(root, 'bench', 'interop', 'nf4.py')
  const words = [script, '--threads', String(availableParallelism())]
  yield* besideBitsandbytes(ours, jsonLines<CodecRate>(await outputOf(python, words, keepsMemory)))
}

export const nf4: Benchmark = {
  name: 'nf4',
  summary:
    'unpacking and quantising beside the memory’s speed, and beside bitsandbytes where PEER_PYTHON has it',
  run,
}
