// `npm run bench [-- NAME…] [--json]`: each figure beside its limit, measured in the same run.
// `scripts/ensure.mjs` has built the addon. The only file here that prints and ends the process.

import { exitStatus, LoraTrainError, native } from '../ts/native/index.js'
import { curves } from './curves.js'
import type { Benchmark, Line } from './figure.js'
import { gemm } from './gemm.js'
import { interop } from './interop.js'
import { loadWarning, othersShare } from './load.js'
import { examine, machineLine } from './machine.js'
import { memory } from './memory.js'
import { nf4 } from './nf4.js'
import { optimizer } from './optimizer.js'
import { peer } from './peer.js'
import { scaling } from './scaling.js'
import { synthetic } from './synthetic.js'
import { inShort, table } from './table.js'
import { tokenize } from './tokenize.js'
import { train } from './train.js'
import { readWords } from './words.js'

const benchmarks: readonly Benchmark[] = [
  gemm,
  nf4,
  optimizer,
  train,
  memory,
  scaling,
  synthetic,
  peer,
  tokenize,
  interop,
  curves,
]

const print = (text: string): boolean => process.stdout.write(`${text}\n`)
const log = (text: string): boolean => process.stderr.write(`${text} …\n`)

const bench = async (words: readonly string[]): Promise<void> => {
  const wanted = readWords(words, benchmarks)
  const engine = await native()
  const machine = await examine(engine)
  print(wanted.json ? JSON.stringify({ kind: 'machine', ...machine }) : machineLine(machine))
  for (const { name, summary, run } of wanted.benchmarks) {
    const lines: Line[] = []
    const take = (line: Line): void => {
      if (wanted.json) print(JSON.stringify(line))
      else lines.push(line)
      // The table comes at the end, which may be far; what is measured is said at once.
      if (!wanted.json && line.kind === 'figure') process.stderr.write(`${inShort(line)}\n`)
    }
    const before = await othersShare()
    for await (const line of run({ engine, log })) take(line)
    for (const text of loadWarning([before, await othersShare()])) take({ kind: 'note', bench: name, text })
    if (!wanted.json) print(['', `${name}: ${summary}`, ...table(lines)].join('\n'))
  }
}

try {
  await bench(process.argv.slice(2))
} catch (error) {
  if (!(error instanceof LoraTrainError)) throw error
  process.stderr.write(`error: ${error.message}\nhint: ${error.hint}\n`)
  process.exitCode = exitStatus(error.code)
}
