// The same seed gives the same bits through the bridge, for any number of threads; another seed gives others.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { type ConfigInput, train } from '../../ts/index.js'
import { folderOf } from '../folder.js'
import { rows, shortTemplate, writeGoldenModel } from './model.js'

/** Trains four steps and returns the bytes of the file of weights. */
const trained = async (t: ExecutionContext, values: Partial<ConfigInput>, file: string): Promise<Buffer> => {
  const folder = folderOf(t)
  const data_path = join(folder, 'rows.json')
  writeFileSync(data_path, JSON.stringify(rows(12)))
  const output_dir = join(folder, 'out')
  const config = {
    model_name_or_path: writeGoldenModel(join(folder, 'model')),
    data_path,
    output_dir,
    template: shortTemplate,
    max_steps: 4,
    per_device_train_batch_size: 2,
    gradient_accumulation_steps: 2,
    learning_rate: 1e-2,
    ...values,
  }
  let last: string | undefined
  for await (const event of train(config)) last = event.type
  t.is(last, 'done')
  return readFileSync(join(output_dir, file))
}

const methods: [name: string, values: Partial<ConfigInput>, file: string][] = [
  [
    'LoRA with dropout',
    { lora: { target_modules: 'all-linear', lora_dropout: 0.2 } },
    'adapter_model.safetensors',
  ],
  ['full fine-tuning', {}, 'model.safetensors'],
  ['LoRA in bf16', { lora: {}, bf16: true }, 'adapter_model.safetensors'],
]

for (const [name, values, file] of methods) {
  test(`${name}: bits follow from the seed, not from threads or memory`, async (t) => {
    const first = await trained(t, { ...values, threads: 2 }, file)
    const same: Partial<ConfigInput>[] = [{ threads: 2 }, { threads: 1 }, { gradient_checkpointing: true }]
    for (const other of same) {
      t.true(first.equals(await trained(t, { ...values, ...other }, file)), JSON.stringify(other))
    }
    t.false(first.equals(await trained(t, { ...values, threads: 2, seed: 43 }, file)), 'another seed')
  })
}

test('dropout is drawn: without it the bits are others', async (t) => {
  const file = 'adapter_model.safetensors'
  const dropped = await trained(t, { lora: { lora_dropout: 0.5 } }, file)
  t.false(dropped.equals(await trained(t, { lora: { lora_dropout: 0 } }, file)))
})
