// `train`: tokens/s of LoRA on SmolLM2 beside the FLOP ceiling, the FLOP/s of its products beside the FMA peak, and peak
// memory beside the plan.

import type { ConfigInput } from '../ts/config/index.js'
import type { JobData, TrainingResult } from './child/training.js'
import type { Benchmark, Line, World } from './figure.js'
import { shares, total } from './flops.js'
import { type Dtype, examine, peakGflops } from './machine.js'
import { germanRows, noShared, noSmollm2, smollm2, smollm2Decoder } from './places.js'
import { measureTraining } from './process.js'
import { type Executed, flopsOf, memoryFigure, productsFigure, speedFigure } from './training_lines.js'

/** The first one warms up. */
const steps = 6

const loraRank = 16

/** LoRA on all linears, as `../shared/peers/peft_qlora.py` sets it. */
export const loraConfig = (model: string, dtype: Dtype): ConfigInput => ({
  model_name_or_path: model,
  bf16: dtype === 'bf16',
  learning_rate: 2e-4,
  model_max_length: 512,
  per_device_train_batch_size: 4,
  lora: { r: loraRank, lora_alpha: 2 * loraRank, lora_dropout: 0, target_modules: 'all-linear' },
})

/** The base in NF4 with double quantisation, computed in bf16. */
export const quantization = {
  load_in_4bit: true,
  bnb_4bit_quant_type: 'nf4',
  bnb_4bit_use_double_quant: true,
  bnb_4bit_compute_dtype: 'bfloat16',
} as const

interface Case {
  name: string
  dtype: Dtype
  config: ConfigInput
  data: JobData
}

/** What the base is kept in, and what it is computed in. */
const precisions = [
  ['nf4', 'bf16'],
  ['bf16', 'bf16'],
  ['f32', 'f32'],
] as const

const casesOf = (model: string, rows: string | null): Case[] =>
  precisions.flatMap(([base, dtype]) => {
    const config = { ...loraConfig(model, dtype), ...(base === 'nf4' ? { quantization } : {}) }
    const fixed = ([false, true] as const).map(
      (recompute): Case => ({
        name: `4x512 ${base} ${recompute ? 'recomputed' : 'kept'}`,
        dtype,
        config: { ...config, gradient_checkpointing: recompute },
        data: { kind: 'random' },
      }),
    )
    if (rows === null) return fixed
    const data = { kind: 'file', path: rows } as const
    return [
      ...fixed,
      { name: `german rows ${base}`, dtype, data, config: { ...config, gradient_accumulation_steps: 4 } },
    ]
  })

/** The parts of what the last step executed, which all steps of random rows share. */
const partsNote = (bench: string, name: string, result: TrainingResult, executed: Executed): Line[] => {
  const step = result.steps.at(-1)
  if (step === undefined) return []
  const flops = flopsOf(result, step, executed)
  const text = `${name}: ${(1e-12 * total(flops)).toFixed(2)} TFLOP a step of ${step.tokens} tokens: ${shares(flops)}`
  return [{ kind: 'note', bench, text }]
}

async function* run({ engine, log }: World): AsyncGenerator<Line> {
  const bench = 'train'
  const model = smollm2()
  if (model === null) return yield { kind: 'skipped', bench, case: 'all', why: noSmollm2 }
  const rows = germanRows()
  if (rows === null) yield { kind: 'skipped', bench, case: 'german rows', why: noShared }
  for (const { name, dtype, config, data } of casesOf(model, rows)) {
    log(`train: ${name}`)
    const before = await examine(engine)
    const result = await measureTraining({ config, steps, data })
    const after = await examine(engine)
    const peak = Math.max(peakGflops(before, dtype), peakGflops(after, dtype))
    const executed = { decoder: smollm2Decoder, rank: loraRank, peakGflops: peak }
    yield speedFigure(bench, name, result, executed)
    yield productsFigure(bench, name, result, executed)
    yield memoryFigure(bench, name, result)
    yield* partsNote(bench, name, result, executed)
  }
  const text =
    `SmolLM2-135M, LoRA r ${loraRank} on all linears, nf4 with double quantisation computed in bf16; best of ${steps - 1} steps after ` +
    'the first. "kept": no block is recomputed. Products: FLOPs of all that are executed (bench/flops.ts) ÷ time of the whole ' +
    'step, beside the peak of multiply-adds in the precision of the training with the same instruction set'
  yield { kind: 'note', bench, text }
}

export const train: Benchmark = {
  name: 'train',
  summary:
    'tokens/s of training beside the FLOP ceiling, its products beside the FMA peak, memory beside the plan',
  run,
}
