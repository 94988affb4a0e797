// What a plan says that a run will write is what lies on the disk afterwards: the result and a checkpoint.

import { readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { readSafetensors, writeSafetensors } from '../../scripts/tiny-model/safetensors.js'
import { type ConfigInput, type TrainEvent, train } from '../../ts/index.js'
import { folderOf } from '../folder.js'
import { ofType } from '../trainer/run.js'
import { rows, shortTemplate, writeRandomModel, writeTokenizer } from './model.js'

/** Large enough that headers, configs and the tokenizer are under a hundredth of it. */
const size = { hidden_size: 256, intermediate_size: 512, num_hidden_layers: 2, num_attention_heads: 4 }

/** Bytes of the folder's files, without what no plan counts and what is no part of the result. */
const bytesIn = (folder: string): number =>
  readdirSync(folder)
    .filter((name) => !/^(checkpoint-.*|loss\..*|report\.html|trainer_state\.json)$/.test(name))
    .reduce((sum, name) => sum + statSync(join(folder, name)).size, 0)

const methods: [name: string, values: Partial<ConfigInput>][] = [
  ['full', {}],
  ['an adapter', { lora: { r: 64, target_modules: 'all-linear', save_embedding_layers: false } }],
  [
    'an adapter with embedding and head',
    { lora: { r: 64, target_modules: 'all-linear', save_embedding_layers: true } },
  ],
  [
    'an adapter beside a trained head',
    {
      lora: {
        r: 64,
        target_modules: 'all-linear',
        modules_to_save: ['lm_head'],
        save_embedding_layers: true,
      },
    },
  ],
]

for (const dtype of ['F32', 'BF16'] as const) {
  for (const [name, values] of methods) {
    test(`${name} of a model in ${dtype}: the plan is within 1 % of the disk`, async (t) => {
      const folder = folderOf(t)
      const model = writeRandomModel(join(folder, 'model'), { ...size, vocab_size: 4096 })
      writeTokenizer(model)
      const weights = join(model, 'model.safetensors')
      writeSafetensors(weights, readSafetensors(weights), dtype)
      const data_path = join(folder, 'rows.json')
      writeFileSync(data_path, JSON.stringify(rows(4)))
      const output_dir = join(folder, 'out')
      const config = {
        ...{ model_name_or_path: model, data_path, output_dir, template: shortTemplate },
        ...values,
      }
      const run = { ...config, max_steps: 1, save_strategy: 'steps' as const, save_steps: 1 }
      const events: TrainEvent[] = []
      for await (const event of train(run)) events.push(event)
      const saved = ofType(events, 'plan')[0]?.plan.saved ?? { result: 0, checkpoint: 0 }
      const near = (planned: number, there: number, what: string): void => {
        t.log(`${what}: planned ${planned}, ${there} on the disk`)
        t.true(Math.abs(planned / there - 1) < 0.01, `${what}: planned ${planned}, ${there} on the disk`)
      }
      near(saved.result, bytesIn(output_dir), 'result')
      near(saved.checkpoint, bytesIn(join(output_dir, 'checkpoint-1')), 'checkpoint')
    })
  }
}
