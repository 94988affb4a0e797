// `train`: tokens/s of LoRA on SmolLM2 beside the FLOP ceiling, and peak memory beside the plan.

import type { ConfigInput } from '../ts/config/index.js'
import type { JobData } from './child/training.js'
import type { Benchmark, Line, World } from './figure.js'
import { type Dtype, examine, peakGflops } from './machine.js'
import { germanRows, noShared, noSmollm2, smollm2, smollm2Head } from './places.js'
import { measureTraining } from './process.js'
import { memoryFigure, speedFigure } from './training_lines.js'

/** The first one warms up. */
const steps = 4

/** LoRA r 16 on all linears, as `../shared/peers/peft_qlora.py` sets it. */
export const loraConfig = (model: string, dtype: Dtype): ConfigInput => ({
  model_name_or_path: model,
  bf16: dtype === 'bf16',
  learning_rate: 2e-4,
  model_max_length: 512,
  per_device_train_batch_size: 4,
  lora: { r: 16, lora_alpha: 32, lora_dropout: 0, target_modules: 'all-linear' },
})

interface Case {
  name: string
  dtype: Dtype
  config: ConfigInput
  data: JobData
}

const casesOf = (model: string, rows: string | null): Case[] =>
  (['f32', 'bf16'] as const).flatMap((dtype) => {
    const config = loraConfig(model, dtype)
    const fixed = ([false, true] as const).map(
      (recompute): Case => ({
        name: `4x512 ${dtype} ${recompute ? 'recomputed' : 'kept'}`,
        dtype,
        config: { ...config, gradient_checkpointing: recompute },
        data: { kind: 'random' },
      }),
    )
    if (rows === null) return fixed
    const data = { kind: 'file', path: rows } as const
    return [
      ...fixed,
      { name: `german rows ${dtype}`, dtype, data, config: { ...config, gradient_accumulation_steps: 4 } },
    ]
  })

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
    yield speedFigure(bench, name, result, { peakGflops: peak, head: smollm2Head })
    yield memoryFigure(bench, name, result)
  }
  const text = `SmolLM2-135M, LoRA r 16 on all linears; best of ${steps - 1} steps after the first. "kept": no block is recomputed`
  yield { kind: 'note', bench, text }
}

export const train: Benchmark = {
  name: 'train',
  summary: 'tokens/s of training beside the FLOP ceiling, peak memory beside the plan',
  run,
}
