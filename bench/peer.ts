// `peer`: the same training with PyTorch, Transformers and PEFT in turn with ours: speed, memory, time to load.
// Theirs is `../shared/peers/peft_qlora.py`; same model folder, texts, rank and batch.

import { availableParallelism } from 'node:os'
import type { ConfigInput } from '../ts/config/index.js'
import type { JobData, TrainingResult } from './child/training.js'
import { type Benchmark, figure, type Line, repeated, type World } from './figure.js'
import type { Dtype } from './machine.js'
import { germanRows, noShared, peer as peerPlaces, smollm2Folder } from './places.js'
import { jsonLines, measureTraining, outputOf } from './process.js'
import { buildProgram, secondsToFirstStep } from './start.js'
import { loraConfig, quantization } from './train.js'
import { tokensPerSecond } from './training_lines.js'

/** What the script prints for a step. */
export interface PeerStep {
  seconds: number
  tokens: number
  peak_rss_mib: number
  load_s: number
}

/** How often faster, and at most which part of the memory: what ours is to reach beside theirs. */
export interface Targets {
  speed: number
  memory: number
}

/** Every token real, and both recompute; or rows as users have them: theirs padded, ours packed. */
const fixedTargets: Targets = { speed: 2, memory: 0.2 }
const realTargets: Targets = { speed: 3.5, memory: 0.35 }
/** From the command to the first step: which part of theirs, and how long where the quantised weights are kept. */
const startTargets = { part: 0.1, seconds: 0.5 }

interface Case {
  name: string
  precision: Precision
  /** The first one warms up, on both sides. */
  steps: number
  accumulation: number
  /** Ours, once for each; theirs recomputes always, as its script does unless told otherwise. */
  recompute: readonly (boolean | null)[]
  data: JobData
  words: string[]
  targets: Targets
}

type Precision = Dtype | 'nf4'

/** What is asked for first comes first: theirs takes minutes for each. */
const precisions: readonly Precision[] = ['nf4', 'bf16', 'f32']

const casesOf = (rows: string | null): Case[] =>
  precisions.flatMap((precision): Case[] => {
    const fixed: Case = {
      name: `4x512 ${precision}`,
      precision,
      // Memory is that after six steps.
      steps: 6,
      accumulation: 1,
      recompute: [true],
      data: { kind: 'random' },
      words: ['--fixed-seq', '512', '--accum', '1'],
      targets: fixedTargets,
    }
    if (rows === null) return [fixed]
    const real: Case = {
      name: `german rows ${precision}`,
      precision,
      steps: 3,
      accumulation: 4,
      // As the plan chooses, which recomputes nothing where there is room; and with the least memory.
      recompute: [null, true],
      data: { kind: 'file', path: rows },
      words: ['--data', rows, '--accum', '4', '--max-length', '512'],
      targets: realTargets,
    }
    return [fixed, real]
  })

/** NF4 with double quantisation computes in bf16, here and there. */
const configOf = (model: string, { precision, accumulation }: Case): ConfigInput => ({
  ...loraConfig(model, precision === 'f32' ? 'f32' : 'bf16'),
  ...(precision === 'nf4' ? { quantization } : {}),
  gradient_accumulation_steps: accumulation,
})

const missed = 'misses the target'

/** Ours beside theirs, with what is wanted. Below 1 is better for memory, above 1 for speed. */
export const comparison = (
  name: string,
  ours: TrainingResult,
  theirs: readonly PeerStep[],
  targets: Targets,
): Line[] => {
  const last = theirs.at(-1)
  if (last === undefined) return [{ kind: 'skipped', bench: 'peer', case: name, why: 'it printed no step' }]
  const own = tokensPerSecond(ours)
  const warm = theirs.length > 1 ? theirs.slice(1) : theirs
  const other = repeated(warm.map(({ seconds, tokens }) => seconds / tokens))
  const peakBytes = last.peak_rss_mib * 2 ** 20
  return [
    figure({
      bench: 'peer',
      case: `${name} speed`,
      value: own.best,
      unit: 'tokens/s',
      limit: 1 / other.best,
      limitName: `theirs, target ≥${targets.speed}`,
      spread: Math.max(own.spread ?? 0, other.spread ?? 0),
      fault: own.best * other.best >= targets.speed ? null : missed,
    }),
    figure({
      bench: 'peer',
      case: `${name} memory`,
      value: ours.peakRssBytes,
      unit: 'bytes',
      limit: peakBytes,
      limitName: `theirs, target ≤${targets.memory}`,
      fault: ours.peakRssBytes / peakBytes <= targets.memory ? null : missed,
    }),
  ]
}

/** From the command to the first step: beside theirs, and beside half a second where the base is kept quantised. */
export const startLines = (precision: Precision, seconds: number, theirs: readonly PeerStep[]): Line[] => {
  const last = theirs.at(-1)
  const given = {
    bench: 'peer',
    case: `${precision} command to first step`,
    value: seconds,
    unit: 's',
  } as const
  const lines: Line[] = []
  if (last !== undefined) {
    const limitName = `theirs, target ≤${startTargets.part}`
    const fault = seconds <= startTargets.part * last.load_s ? null : missed
    lines.push(figure({ ...given, limit: last.load_s, limitName, fault }))
  }
  if (precision === 'nf4') {
    const fault = seconds <= startTargets.seconds ? null : missed
    lines.push(figure({ ...given, limit: startTargets.seconds, limitName: 'target, from the cache', fault }))
  }
  return lines
}

/** The second of two starts: the first leaves what it quantised in the cache. */
const measureStart = async (config: ConfigInput, rows: string): Promise<number> => {
  const whole = { ...config, data_path: rows, max_steps: 1 }
  await secondsToFirstStep(whole)
  return secondsToFirstStep(whole)
}

async function* run({ log }: World): AsyncGenerator<Line> {
  const bench = 'peer'
  const places = peerPlaces()
  if (typeof places === 'string') return yield { kind: 'skipped', bench, case: 'all', why: places }
  const model = smollm2Folder(places)
  if (model === null) {
    return yield {
      kind: 'skipped',
      bench,
      case: 'all',
      why: 'smollm2_folder.py failed; its last lines say why',
    }
  }
  const rows = germanRows()
  if (rows === null) yield { kind: 'skipped', bench, case: 'german rows', why: noShared }
  const threads = ['--threads', String(availableParallelism())]
  await buildProgram()
  for (const one of casesOf(rows)) {
    const { name, precision, steps, data, words, targets } = one
    log(`peer: ${name}, theirs`)
    const output = await outputOf(places.python, [
      places.train,
      ...['--model', model, '--dtype', precision === 'f32' ? 'f32' : 'bf16'],
      ...['--quant', precision === 'nf4' ? 'nf4' : 'none', '--method', 'lora'],
      ...['--micro', '4', '--steps', String(steps)],
      ...threads,
      ...words,
    ])
    const theirs = jsonLines<PeerStep>(output)
    const base = configOf(model, one)
    for (const recompute of one.recompute) {
      log(`peer: ${name}, ours`)
      const config = { ...base, gradient_checkpointing: recompute }
      const ours = await measureTraining({ config, steps, data })
      yield* comparison(recompute === true ? `${name} recomputed` : name, ours, theirs, targets)
    }
    if (data.kind === 'random') continue
    log(`peer: ${name}, from the command to the first step`)
    yield* startLines(precision, await measureStart(base, data.path), theirs)
  }
  const text =
    "SmolLM2-135M, LoRA r 16 on all linears; nf4 with double quantisation, in bf16. The limit is the peer's figure; theirs recomputes. " +
    'Best of the steps after the first, 5 at 4x512 and 2 on the rows. Ours tokenises all 4,000 rows before its first step'
  yield { kind: 'note', bench, text }
}

export const peer: Benchmark = {
  name: 'peer',
  summary: 'ours beside PyTorch + Transformers + PEFT, where PEER_PYTHON names a Python that has them',
  run,
}
