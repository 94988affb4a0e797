// `memory`: the process's peak beside the planned one, over methods, precisions, recomputation, lengths and sizes.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ConfigInput } from '../ts/config/index.js'
import type { Benchmark, Line, World } from './figure.js'
import { noSmollm2, smollm2, tinyModel } from './places.js'
import { measureTraining } from './process.js'
import { loraConfig } from './train.js'
import { memoryFigure } from './training_lines.js'

/** The second shows what the allocator keeps back from the first. */
const steps = 2

type Method = 'lora' | 'full'
type Blocks = 'kept' | 'recomputed'
type Shape = readonly [rows: number, length: number]

/** Each setting of a method occurs with either precision, and both lengths with and without recomputation. */
const smollm2Cases: readonly [Method, 'f32' | 'bf16', Blocks, Shape][] = [
  ['lora', 'f32', 'kept', [4, 128]],
  ['lora', 'f32', 'recomputed', [4, 128]],
  ['lora', 'bf16', 'kept', [4, 512]],
  ['lora', 'bf16', 'recomputed', [4, 512]],
  ['full', 'f32', 'kept', [4, 128]],
  ['full', 'f32', 'recomputed', [4, 128]],
  ['full', 'bf16', 'kept', [2, 512]],
  ['full', 'bf16', 'recomputed', [2, 512]],
]
const tinyCases: typeof smollm2Cases = [
  ['lora', 'f32', 'kept', [16, 256]],
  ['lora', 'bf16', 'recomputed', [16, 64]],
  ['full', 'f32', 'recomputed', [16, 256]],
  ['full', 'bf16', 'kept', [16, 64]],
]

const configOf = (
  model: string,
  [method, dtype, blocks, [rows, length]]: (typeof tinyCases)[number],
): ConfigInput => {
  const { lora, ...shared } = loraConfig(model, dtype)
  return {
    ...shared,
    ...(method === 'lora' ? { lora } : {}),
    gradient_checkpointing: blocks === 'recomputed',
    model_max_length: length,
    per_device_train_batch_size: rows,
  }
}

async function* run({ log }: World): AsyncGenerator<Line> {
  const bench = 'memory'
  const folder = mkdtempSync(join(tmpdir(), 'lora-train-bench-'))
  try {
    const model = smollm2()
    if (model === null) yield { kind: 'skipped', bench, case: 'smollm2', why: noSmollm2 }
    const models = [
      ...(model === null ? [] : [{ label: 'smollm2', path: model, cases: smollm2Cases }]),
      { label: 'tiny', path: tinyModel(folder), cases: tinyCases },
    ]
    for (const { label, path, cases } of models) {
      for (const setting of cases) {
        const [method, dtype, blocks, shape] = setting
        const name = `${label} ${method} ${dtype} ${shape.join('x')} ${blocks}`
        log(`memory: ${name}`)
        const job = { config: configOf(path, setting), steps, data: { kind: 'random' } } as const
        yield memoryFigure(bench, name, await measureTraining(job))
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

export const memory: Benchmark = {
  name: 'memory',
  summary: 'peak memory of the process beside the planned peak, over twelve configurations',
  run,
}
