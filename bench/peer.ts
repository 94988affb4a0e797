// `peer`: the same training with PyTorch, Transformers and PEFT in turn with ours: speed, memory, time to load.
// Theirs is `../shared/peers/peft_qlora.py`; same model folder, texts, rank and batch.

import { availableParallelism } from 'node:os'
import type { JobData, TrainingResult } from './child/training.js'
import { type Benchmark, figure, type Line, repeated, type World } from './figure.js'
import type { Dtype } from './machine.js'
import { germanRows, noShared, peer as peerPlaces, smollm2Folder } from './places.js'
import { jsonLines, measureTraining, outputOf } from './process.js'
import { loraConfig } from './train.js'
import { tokensPerSecond } from './training_lines.js'

/** The first one warms up, on both sides. */
const steps = 3

/** What the script prints for a step. */
export interface PeerStep {
  seconds: number
  tokens: number
  peak_rss_mib: number
  load_s: number
}

interface Case {
  name: string
  dtype: Dtype
  accumulation: number
  /** Ours; theirs recomputes always, as its script does unless told otherwise. */
  recompute: boolean | null
  data: JobData
  words: string[]
}

const casesOf = (rows: string | null): Case[] =>
  (['f32', 'bf16'] as const).flatMap((dtype): Case[] => {
    const fixed: Case = {
      name: `4x512 ${dtype} recomputed`,
      dtype,
      accumulation: 1,
      recompute: true,
      data: { kind: 'random' },
      words: ['--fixed-seq', '512', '--accum', '1'],
    }
    if (rows === null) return [fixed]
    const real: Case = {
      name: `german rows ${dtype}`,
      dtype,
      accumulation: 4,
      recompute: null,
      data: { kind: 'file', path: rows },
      words: ['--data', rows, '--accum', '4', '--max-length', '512'],
    }
    return [fixed, real]
  })

/** Ours beside theirs. Below 1 is better for memory and loading, above 1 for speed. */
export const comparison = (name: string, ours: TrainingResult, theirs: readonly PeerStep[]): Line[] => {
  const last = theirs.at(-1)
  if (last === undefined) return [{ kind: 'skipped', bench: 'peer', case: name, why: 'it printed no step' }]
  const own = tokensPerSecond(ours)
  const warm = theirs.length > 1 ? theirs.slice(1) : theirs
  const other = repeated(warm.map(({ seconds, tokens }) => seconds / tokens))
  const shared = { bench: 'peer', limitName: 'theirs' }
  return [
    figure({
      ...shared,
      case: `${name} speed`,
      value: own.best,
      unit: 'tokens/s',
      limit: 1 / other.best,
      spread: Math.max(own.spread ?? 0, other.spread ?? 0),
    }),
    figure({
      ...shared,
      case: `${name} memory`,
      value: ours.peakRssBytes,
      unit: 'bytes',
      limit: last.peak_rss_mib * 2 ** 20,
    }),
    figure({ ...shared, case: `${name} loading`, value: ours.loadSeconds, unit: 's', limit: last.load_s }),
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
  for (const { name, dtype, accumulation, recompute, data, words } of casesOf(rows)) {
    log(`peer: ${name}, ours`)
    const config = {
      ...loraConfig(model, dtype),
      gradient_accumulation_steps: accumulation,
      gradient_checkpointing: recompute,
    }
    const ours = await measureTraining({ config, steps, data })
    log(`peer: ${name}, theirs`)
    const fixed = ['--quant', 'none', '--method', 'lora', '--micro', '4', '--steps', String(steps)]
    const theirs = await outputOf(places.python, [
      places.train,
      ...['--model', model, '--dtype', dtype],
      ...fixed,
      ...threads,
      ...words,
    ])
    yield* comparison(name, ours, jsonLines<PeerStep>(theirs))
  }
  const text = `SmolLM2-135M in bf16, LoRA r 16 on all linears; the limit is the peer's figure; best of ${steps - 1} steps after the first`
  yield { kind: 'note', bench, text }
}

export const peer: Benchmark = {
  name: 'peer',
  summary: 'ours beside PyTorch + Transformers + PEFT, where PEER_PYTHON names a Python that has them',
  run,
}
