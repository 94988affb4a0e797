// A run that was broken and resumed ends with the bits of one that never stopped: weights, optimizer, log.

import test from 'ava'
import { folderOf } from '../folder.js'
import { brokenAndStraight, combinations, randomOf, threePoints } from './resume.js'

/** `npm run torture` runs all of them. */
const sample = combinations.filter(({ inSample, values }) => inSample && values.optim === 'adamw_torch')

for (const [seed, { name, values }] of sample.entries()) {
  const points = threePoints(randomOf(seed))
  test(`${name}: broken at ${points.join(', ')}`, async (t) => {
    t.deepEqual(await brokenAndStraight(folderOf(t), values, points), [])
  })
}

const grown = { special_tokens: { pad_token: '[PAD]' } }
const onHead = { r: 64, target_modules: 'all-linear' as const, modules_to_save: ['lm_head'] }
for (const [name, values] of [
  ['full', grown],
  ['LoRA', { ...grown, lora: { r: 64 } }],
  ['LoRA and the head', { ...grown, lora: onHead }],
] as const) {
  test(`${name}, a vocabulary that grew: the new rows are there again`, async (t) => {
    t.deepEqual(await brokenAndStraight(folderOf(t), values, [2, 9, 13]), [])
  })
}
