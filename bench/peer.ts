// `peer`: the same training with PyTorch, Transformers and PEFT in turn with ours: speed, memory, time to load.
// Theirs is `../shared/peers/peft_qlora.py`; same model folder, texts, rank and batch.

import { availableParallelism } from 'node:os'
import type { ConfigInput } from '../ts/config/index.js'
import type { JobData, TrainingResult } from './child/training.js'
import { type Benchmark, figure, type Line, repeated, type World } from './figure.js'
import type { Dtype } from './machine.js'
import { germanRows, noShared, peer as peerPlaces, smollm2Folder } from './places.js'
import { jsonLines, measureTraining, outputOf } from './process.js'
import { loraConfig, quantization } from './train.js'
import { tokensPerSecond } from './training_lines.js'

/** What the script prints for a step. */
export interface PeerStep {
  seconds: number
  tokens: number
  peak_rss_mib: number
  load_s: number
}

/** How often faster, at most which part of the memory, how often sooner: what ours is to reach beside theirs. */
export interface Targets {
  speed: number
  memory: number
  loading: number
}

/** Every token real, and both recompute; or rows as users have them: theirs padded, ours packed. */
const fixedTargets: Targets = { speed: 2, memory: 0.2, loading: 10 }
const realTargets: Targets = { speed: 3.5, memory: 0.35, loading: 10 }

interface Case {
  name: string
  precision: Precision
  /** The first one warms up, on both sides. */
  steps: number
  accumulation: number
  /** Ours; theirs recomputes always, as its script does unless told otherwise. */
  recompute: boolean | null
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
      name: `4x512 ${precision} recomputed`,
      precision,
      // Memory is that after six steps.
      steps: 6,
      accumulation: 1,
      recompute: true,
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
      recompute: null,
      data: { kind: 'file', path: rows },
      words: ['--data', rows, '--accum', '4', '--max-length', '512'],
      targets: realTargets,
    }
    return [fixed, real]
  })

/** NF4 with double quantisation computes in bf16, here and there. */
const configOf = (model: string, { precision, accumulation, recompute }: Case): ConfigInput => {
  return {
    ...loraConfig(model, precision === 'f32' ? 'f32' : 'bf16'),
    ...(precision === 'nf4' ? { quantization } : {}),
    gradient_accumulation_steps: accumulation,
    gradient_checkpointing: recompute,
  }
}

/** Ours beside theirs, with what is wanted. Below 1 is better for memory and loading, above 1 for speed. */
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
  const missed = 'misses the target'
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
    figure({
      bench: 'peer',
      case: `${name} loading`,
      value: ours.loadSeconds,
      unit: 's',
      limit: last.load_s,
      limitName: `theirs, target ≤${1 / targets.loading}`,
      fault: ours.loadSeconds * targets.loading <= last.load_s ? null : missed,
    }),
  ]
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
  for (const one of casesOf(rows)) {
    const { name, precision, steps, data, words, targets } = one
    log(`peer: ${name}, ours`)
    const ours = await measureTraining({ config: configOf(model, one), steps, data })
    log(`peer: ${name}, theirs`)
    const theirs = await outputOf(places.python, [
      places.train,
      ...['--model', model, '--dtype', precision === 'f32' ? 'f32' : 'bf16'],
      ...['--quant', precision === 'nf4' ? 'nf4' : 'none', '--method', 'lora'],
      ...['--micro', '4', '--steps', String(steps)],
      ...threads,
      ...words,
    ])
    yield* comparison(name, ours, jsonLines<PeerStep>(theirs), targets)
  }
  const text =
    "SmolLM2-135M, LoRA r 16 on all linears; nf4 with double quantisation, in bf16. The limit is the peer's figure; " +
    'best of the steps after the first, 5 at 4x512 and 2 on the rows'
  yield { kind: 'note', bench, text }
}

export const peer: Benchmark = {
  name: 'peer',
  summary: 'ours beside PyTorch + Transformers + PEFT, where PEER_PYTHON names a Python that has them',
  run,
}
