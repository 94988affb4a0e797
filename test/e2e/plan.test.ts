// `lora-train plan` on the real engine, at the sizes of the two runs that the project exists for: from `config.json`
// alone, in under a second.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { resolveValues } from '../../ts/config/index.js'
import type { Plan } from '../../ts/native/contract.js'
import { native } from '../../ts/native/index.js'
import { planWith } from '../../ts/trainer/plan.js'
import { runWords } from '../cli/help.js'
import { folderOf } from '../folder.js'
import { rows, shortTemplate, writeGoldenModel } from './model.js'
import { program } from './program.js'

const configs = fileURLToPath(new URL('../goldens/configs/', import.meta.url))
const deepspeed = fileURLToPath(new URL('../config/runs/deepspeed.json', import.meta.url))

const qlora = {
  model_name_or_path: join(configs, 'mpt-30b'),
  model_max_length: 1024,
  per_device_train_batch_size: 4,
  gradient_accumulation_steps: 4,
  gradient_checkpointing: true,
  bf16: true,
  lora: { r: 64, lora_alpha: 16, target_modules: ['up_proj', 'down_proj'], lora_dropout: 0.05 },
  quantization: {
    load_in_4bit: true,
    bnb_4bit_quant_type: 'nf4',
    bnb_4bit_use_double_quant: true,
    bnb_4bit_compute_dtype: 'bfloat16',
  },
} as const
const full = {
  model_name_or_path: join(configs, 'bloom-6b4'),
  model_max_length: 2048,
  per_device_train_batch_size: 2,
  gradient_accumulation_steps: 8,
  gradient_checkpointing: true,
  bf16: true,
  deepspeed,
} as const

const planned = async (config: object): Promise<Plan> =>
  planWith(await native(), resolveValues({ ...config }).config)

test('MPT-30B: parameters, and what fits', async (t) => {
  const one = await planned({ ...qlora, memory: ['24GiB'] })
  t.like(one, {
    trainableParams: 220_200_960,
    allParams: 29_957_200_896 + 220_200_960,
    vocabSize: 50_432,
    countedFrom: 'config',
    fits: true,
  })
  const small = await planned({ ...qlora, memory: ['20GiB'] })
  t.false(small.fits)
  // A bf16 embedding stays in the file; 4.127 bits of every other weight, and the f32 norms.
  t.is(one.mapped.weights, 2 * 50_432 * 7168)
  t.true(Math.abs(one.bytes.weights - one.mapped.weights - 29_595_009_024 * (4.127 / 8)) < 1e7)
  const two = await planned({ ...qlora, memory: ['24GiB', '24GiB'] })
  t.true(two.fits)
  t.deepEqual(
    two.devices.map(({ nBlocks }) => nBlocks).reduce((a, b) => a + b),
    48,
  )
})

test('FP4 takes the bytes of NF4', async (t) => {
  const quantization = { ...qlora.quantization, bnb_4bit_quant_type: 'fp4' }
  const [{ bytes: nf4 }, { bytes: fp4 }] = [await planned(qlora), await planned({ ...qlora, quantization })]
  t.deepEqual(fp4, nf4)
})

test('int8 takes a byte of each weight', async (t) => {
  const { bytes, mapped } = await planned({ ...qlora, quantization: { load_in_8bit: true } })
  // And an f32 of each row, and the f32 norms.
  t.true(Math.abs(bytes.weights - mapped.weights - (29_595_009_024 + 4 * 48 * 9 * 7168)) < 4e6)
})

test('BLOOM with its DeepSpeed file: a card beside a host, and this machine', async (t) => {
  const params = 6_247_456_768
  const card = await planned({ ...full, memory: ['24GiB'] })
  t.like(card, { trainableParams: params, allParams: params, fits: true })
  t.like(card.host, { weights: 4 * params, gradients: 4 * params, optimizer: 8 * params })
  const here = await planned(full)
  t.is(here.host, null)
  t.like(here.bytes, { weights: 4 * params, gradients: 4 * params, optimizer: 8 * params })
})

test.serial('the program answers in under a second, with exit status 0 or 5', async (t) => {
  const words = ['--model_name_or_path', qlora.model_name_or_path, '--lora_r', '64']
  const shape = ['--model_max_length', '1024', '--per_device_train_batch_size', '4', '--lora.target_modules']
  const nf4 = ['--load_in_4bit', '--bnb_4bit_quant_type', 'nf4', '--bnb_4bit_use_double_quant', 'true']
  const all = ['plan', ...words, ...shape, 'up_proj,down_proj', ...nf4, '--gradient_checkpointing', 'true']
  const engine = await native()
  const answered = async (memory: string) => {
    const started = performance.now()
    const ended = await runWords([...all, '--memory', memory], engine)
    return { ...ended, ms: performance.now() - started }
  }
  const tight = await answered('20GiB')
  const wide = await answered('24GiB,24GiB')
  t.is(tight.status, 5, tight.stderr)
  t.is(wide.status, 0, wide.stderr)
  t.regex(
    wide.stdout,
    /device 1: embedding, blocks 1 to \d+, head\n {2}device 2: blocks \d+ to 48, final norm/,
  )
  t.regex(wide.stdout, /Trainable params: 220200960 \|\| all_params: 30177401856 \|\| trainable%: 0\.7296882/)
  // The better of two: the machine may be busy with other tests.
  const ms = Math.min(tight.ms, wide.ms)
  t.true(ms < 1000, `${ms.toFixed(0)} ms`)
})

test('several devices are planned for, not trained on', async (t) => {
  const folder = folderOf(t)
  const data = join(folder, 'rows.json')
  writeFileSync(data, JSON.stringify(rows(8)))
  const model = writeGoldenModel(join(folder, 'model'))
  const template = Object.entries(shortTemplate).flatMap(([name, text]) => [`--template.${name}`, text])
  const words = ['--model', model, '--data_path', data, '--output_dir', join(folder, 'out'), ...template]
  const ended = await runWords(['train', ...words, '--memory', '8GiB,8GiB'], await native())
  t.is(ended.status, 2)
  t.regex(
    ended.stderr,
    /memory names 2 devices, and there is one to compute on\nhint: .*plan` takes a list\.\n$/,
  )
  t.false(existsSync(join(folder, 'out')))
})

test('a config alone is enough to plan, and train says what is missing', async (t) => {
  const folder = folderOf(t)
  const whole = writeGoldenModel(join(folder, 'whole'))
  const alone = join(folder, 'alone')
  mkdirSync(alone)
  writeFileSync(join(alone, 'config.json'), readFileSync(join(whole, 'config.json')))
  const engine = await native()
  const of = async (model: string): Promise<Plan> =>
    JSON.parse((await runWords(['plan', '--model', model, '--lora_r', '4', '--json'], engine)).stdout)
  const [here, there] = [await of(whole), await of(alone)]
  t.deepEqual([here.countedFrom, there.countedFrom], ['headers', 'config'])
  t.deepEqual(there.bytes, here.bytes)
  t.deepEqual(there.mapped, here.mapped)

  const data = join(folder, 'rows.json')
  writeFileSync(data, JSON.stringify(rows(8)))
  const words = ['--data_path', data, '--output_dir', join(folder, 'out'), '--tokenizer_name', whole]
  const ended = await runWords(['train', '--model', alone, ...words], engine)
  t.is(ended.status, 4)
  t.regex(ended.stderr, /alone: the folder has no model\.safetensors or pytorch_model\.bin/)
  t.false(existsSync(join(folder, 'out')))
})

test.serial('doctor keeps the speed that it measured, and a broken file of it harms nothing', async (t) => {
  const cache = folderOf(t)
  const run = (...words: string[]) => program(...words)
  const before = process.env.LORA_TRAIN_CACHE
  process.env.LORA_TRAIN_CACHE = cache
  t.teardown(() => {
    if (before === undefined) delete process.env.LORA_TRAIN_CACHE
    else process.env.LORA_TRAIN_CACHE = before
  })
  t.is((await run('doctor')).status, 0)
  const file = join(cache, 'speed.json')
  const kept = JSON.parse(readFileSync(file, 'utf8'))
  t.deepEqual(
    kept.map(({ precision }: { precision: string }) => precision),
    ['f32', 'bf16'],
  )
  // Ten times as fast: the plan takes it from the file.
  const secondsOf = async (): Promise<number> =>
    JSON.parse((await run('plan', '--model', qlora.model_name_or_path, '--json')).stdout).stepSeconds
  const seconds = await secondsOf()
  writeFileSync(
    file,
    JSON.stringify(kept.map((one: { gflops: number }) => ({ ...one, gflops: one.gflops * 10 }))),
  )
  t.true(Math.abs((await secondsOf()) / seconds - 0.1) < 1e-6)
  writeFileSync(file, '{"gflops": [')
  t.true((await secondsOf()) > 0)
})
