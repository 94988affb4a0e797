// A run that was broken and resumed ends with the bits of one that never stopped: weights, optimizer, log.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { ConfigInput } from '../../ts/index.js'
import { folderOf } from '../folder.js'
import { brokenAndStraight, combinations, randomOf, threePoints } from './resume.js'

/** `npm run torture` runs all of them. */
const sample = combinations.filter(({ inSample }) => inSample)

for (const [seed, { name, values }] of sample.entries()) {
  const points = threePoints(randomOf(seed))
  test(`${name}: broken at ${points.join(', ')}`, async (t) => {
    t.deepEqual(await brokenAndStraight(folderOf(t), values, points), [])
  })
}

const special_tokens = { pad_token: '[PAD]' }
const lora = { r: 64, target_modules: 'all-linear' as const }
const grown: [name: string, values: Partial<ConfigInput>, file: string][] = [
  ['full', {}, 'config.json'],
  ['LoRA', { lora }, 'adapter_model.safetensors'],
  ['LoRA and the head', { lora: { ...lora, modules_to_save: ['lm_head'] } }, 'adapter_model.safetensors'],
]
for (const [name, values, file] of grown) {
  test(`${name}, a vocabulary that grew: the new row is there again`, async (t) => {
    const folder = folderOf(t)
    t.deepEqual(await brokenAndStraight(folder, { ...values, special_tokens }, [2, 9, 13]), [])
    const written = readFileSync(join(folder, 'broken', 'out', 'checkpoint-20', file), 'latin1')
    t.regex(written, /"vocab_size": 80|embed_tokens\.weight":\{"dtype":"F32","shape":\[80,64\]/)
  })
}
