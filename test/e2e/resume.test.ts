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
