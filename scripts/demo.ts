// `npm start`: fine-tunes the embedded model on the embedded examples and shows what that changed.
//
// The same path as any run: examples/tiny/config.yaml through the trainer, with the command line's own report.
// `scripts/ensure.mjs` has made the checkout ready; this file installs and builds nothing.

import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import pc from 'picocolors'
import { parse } from 'yaml'
import { type Resolved, resolveValues } from '../ts/config/index.js'
import { exitStatus, LoraTrainError, type Native, native } from '../ts/native/index.js'
import { createReport, withReports } from '../ts/report/index.js'
import { trainWith } from '../ts/trainer/train.js'
import { answerRows, type Given, isRight } from './demo/answers.js'
import type { Row } from './tiny-model/rows.js'

const ROOT = resolve(import.meta.dirname, '..')
const CONFIG = 'examples/tiny/config.yaml'

const print = (...lines: string[]): boolean => process.stdout.write(`${lines.join('\n')}\n`)
const heading = (text: string): boolean => print('', pc.bold(text))

/** Trains as the command line does; returns where the adapter is, or null where the signal came first. */
async function trainAdapter(engine: Native, resolved: Resolved, signal: AbortSignal): Promise<string | null> {
  const report = createReport({
    stdout: process.stdout,
    stderr: process.stderr,
    format: 'text',
    progressStyle: 'shown',
  })
  const events = trainWith(engine, resolved.config, { signal })
  for await (const event of withReports(resolved, events)) {
    report(event)
    if (event.type === 'interrupted') return null
    if (event.type === 'done') return event.savedTo
  }
  return null
}

const percent = (part: number, whole: number): string => `${((100 * part) / whole).toFixed(0)} %`.padStart(5)

/** Accuracy before and after, by instruction and over all. */
function accuracyTable(rows: Row[], before: Given[], after: Given[]): string[] {
  const line = (label: string, keep: (row: Row) => boolean): string => {
    const rightOf = (given: Given[]): number =>
      given.filter(({ row, answer }) => keep(row) && isRight(row, answer)).length
    const count = rows.filter(keep).length
    const change = `${percent(rightOf(before), count)}  →  ${pc.green(percent(rightOf(after), count))}`
    return `  ${label.padEnd(42)} ${change}   of ${count}`
  }
  const instructions = [...new Set(rows.map((row) => row.instruction))].sort()
  return [
    ...instructions.map((instruction) => line(instruction, (row) => row.instruction === instruction)),
    pc.bold(line('all held-out rows', () => true)),
  ]
}

/** One row of each kind of task, with the answers before and after. */
function samples(before: Given[], after: Given[]): string[] {
  const kinds = [/positiv/, /^(Nenne|Name)/, /^(Beantworte|Answer)/]
  return kinds.flatMap((kind) => {
    const index = before.findIndex(({ row }) => kind.test(row.instruction))
    const [was, is] = [before[index], after[index]]
    if (was === undefined || is === undefined) return []
    return [
      `  ${pc.dim(was.row.instruction)} ${was.row.input}`,
      `    before: ${JSON.stringify(was.answer)}`,
      `    after:  ${pc.green(JSON.stringify(is.answer))}`,
    ]
  })
}

async function demo(signal: AbortSignal): Promise<number> {
  const started = performance.now()
  const resolved = resolveValues(parse(readFileSync(CONFIG, 'utf8')) as Record<string, unknown>)
  const { config } = resolved
  const heldOut = JSON.parse(readFileSync('examples/tiny/heldout.json', 'utf8')) as Row[]
  const engine = await native()

  heading(`Before: the model answers ${heldOut.length} held-out rows, which training never sees`)
  const before = await answerRows(engine, config, { rows: heldOut, adapter: null, signal })
  print(
    `  ${before.filter(({ row, answer }) => isRight(row, answer)).length} of ${heldOut.length} answers are right`,
  )

  heading(`Training a LoRA adapter: lora-train train ${CONFIG}`)
  const adapter = await trainAdapter(engine, resolved, signal)
  if (adapter === null) return exitStatus('CANCELLED')

  const after = await answerRows(engine, config, { rows: heldOut, adapter, signal })
  heading('Right answers before and after')
  print(...accuracyTable(heldOut, before, after))
  heading('Three of them')
  print(...samples(before, after))
  print(
    '',
    `The adapter is in ${resolve(adapter)} (PEFT's format), with report.html. All of this took ${((performance.now() - started) / 1000).toFixed(0)} s.`,
    `Your own: npx lora-train train --model_name_or_path DIR --data_path rows.json --output_dir out --lora.r 16`,
  )
  return 0
}

process.chdir(ROOT)
const interrupt = new AbortController()
process.once('SIGINT', () => interrupt.abort())
try {
  process.exitCode = await demo(interrupt.signal)
} catch (error) {
  if (!(error instanceof LoraTrainError)) throw error
  process.stderr.write(`${pc.red('error')} ${error.message}\n  ${error.hint}\n`)
  process.exitCode = exitStatus(error.code)
}
