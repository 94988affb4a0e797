// `memory`: the process's peak beside the planned one, over methods, bases, precisions, optimizers, recomputation, rows.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ConfigInput } from '../ts/config/index.js'
import type { JobData } from './child/training.js'
import type { Benchmark, Line, World } from './figure.js'
import { germanRows, noShared, noSmollm2, smollm2, tinyModel } from './places.js'
import { measureTraining } from './process.js'
import { loraConfig, quantization } from './train.js'
import { memoryFigure } from './training_lines.js'

/** The second shows what the allocator keeps back from the first. */
const steps = 2

type Method = 'lora' | 'qlora' | 'full'
type Blocks = 'kept' | 'recomputed'
/** Random ids, or rows of the German file: one after another, or padded to the longest of a micro-batch. */
type Rows = readonly [rows: number, length: number] | 'packed' | 'padded'
type Optimizer = 'adamw_torch' | 'adamw_8bit' | 'paged_adamw_8bit' | 'paged_adamw_32bit'

export type Setting = readonly [Method, 'f32' | 'bf16', Blocks, Rows, Optimizer?]

/** Each value of a column occurs beside several of the others; two cores take three minutes for all. */
const smollm2Cases: readonly Setting[] = [
  ['lora', 'f32', 'kept', [4, 128]],
  ['lora', 'f32', 'recomputed', [4, 128]],
  ['lora', 'bf16', 'kept', [4, 512]],
  ['lora', 'bf16', 'recomputed', [4, 512], 'paged_adamw_8bit'],
  ['qlora', 'bf16', 'kept', [4, 512]],
  ['qlora', 'bf16', 'recomputed', [4, 512]],
  ['qlora', 'bf16', 'recomputed', [1, 2048], 'paged_adamw_8bit'],
  ['qlora', 'f32', 'recomputed', [4, 128]],
  ['qlora', 'bf16', 'kept', 'packed'],
  ['qlora', 'bf16', 'kept', 'padded'],
  ['full', 'f32', 'kept', [4, 128]],
  ['full', 'bf16', 'kept', [2, 512], 'paged_adamw_8bit'],
  ['full', 'bf16', 'recomputed', [2, 512]],
  ['full', 'bf16', 'recomputed', 'packed', 'adamw_8bit'],
]
const tinyCases: readonly Setting[] = [
  ['lora', 'f32', 'kept', [16, 256]],
  ['lora', 'bf16', 'recomputed', [16, 64]],
  ['full', 'f32', 'recomputed', [16, 256]],
  ['full', 'bf16', 'kept', [16, 64]],
]

export const nameOf = ([method, dtype, blocks, rows, optim]: Setting): string =>
  [method, dtype, typeof rows === 'string' ? `german rows ${rows}` : rows.join('x'), blocks, optim]
    .filter((word) => word !== undefined)
    .join(' ')

/** `folder`: for a state that lies in a file. */
const configOf = (
  model: string,
  folder: string,
  [method, dtype, blocks, rows, optim]: Setting,
): ConfigInput => {
  const { lora, ...shared } = loraConfig(model, dtype)
  const bnb_4bit_compute_dtype = dtype === 'bf16' ? 'bfloat16' : 'float32'
  return {
    ...shared,
    ...(method === 'full' ? {} : { lora }),
    ...(method === 'qlora' ? { quantization: { ...quantization, bnb_4bit_compute_dtype } } : {}),
    ...(typeof rows === 'string'
      ? { packing: rows === 'packed' }
      : { per_device_train_batch_size: rows[0], model_max_length: rows[1] }),
    optim: optim ?? 'adamw_torch',
    gradient_checkpointing: blocks === 'recomputed',
    output_dir: folder,
    overwrite_output_dir: true,
  }
}

async function* run({ log }: World): AsyncGenerator<Line> {
  const bench = 'memory'
  const folder = mkdtempSync(join(tmpdir(), 'lora-train-bench-'))
  const german = germanRows()
  if (german === null) yield { kind: 'skipped', bench, case: 'german rows', why: noShared }
  try {
    const model = smollm2()
    if (model === null) yield { kind: 'skipped', bench, case: 'smollm2', why: noSmollm2 }
    const models = [
      ...(model === null ? [] : [{ label: 'smollm2', path: model, cases: smollm2Cases }]),
      { label: 'tiny', path: tinyModel(folder), cases: tinyCases },
    ]
    for (const { label, path, cases } of models) {
      for (const setting of cases) {
        const random = typeof setting[3] !== 'string'
        if (!random && german === null) continue
        const data: JobData = random ? { kind: 'random' } : { kind: 'file', path: german ?? '' }
        const name = `${label} ${nameOf(setting)}`
        log(`memory: ${name}`)
        const config = configOf(path, join(folder, 'out'), setting)
        yield memoryFigure(bench, name, await measureTraining({ config, steps, data }))
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

export const memory: Benchmark = {
  name: 'memory',
  summary: 'peak memory of the process beside the planned peak, over 18 configurations',
  run,
}
