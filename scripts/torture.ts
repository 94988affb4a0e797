// `npm run torture`: every combination of a broken and resumed run, then a hundred kills. Prints what it does and ends
// with 1 where a bit differs. `npm run torture -- SEED` tries other moments.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { brokenAndStraight, combinations, randomOf, threePoints } from '../test/e2e/resume.js'
import { torture } from '../test/e2e/torture.js'

const kills = 100
const seed = Number(process.argv[2] ?? 1)
const random = randomOf(seed)
const folder = mkdtempSync(join(tmpdir(), 'lora-train-torture-'))
let failed = 0

console.log(`seed ${seed}`)
for (const [at, { name, values }] of combinations.entries()) {
  const points = threePoints(random)
  const differing = await brokenAndStraight(join(folder, `run-${at}`), values, points)
  const result = differing.length === 0 ? 'the same bits' : `differs in ${differing.join(', ')}`
  console.log(`${at + 1}/${combinations.length} ${name}: broken at ${points.join(', ')}: ${result}`)
  failed += differing.length === 0 ? 0 : 1
}

// Full fine-tuning writes the larger checkpoints, an adapter with dropout the ones that need the random state.
const methods = {
  'full fine-tuning': {},
  LoRA: { lora: { target_modules: 'all-linear' as const, lora_dropout: 0.2 } },
}
for (const [name, values] of Object.entries(methods)) {
  try {
    const outcome = await torture({
      folder: join(folder, name),
      values,
      kills: kills / 2,
      random,
      onKill: ({ kills: done, saidStep, foundStep, leftover }) =>
        console.log(
          `${name}, kill ${done}/${kills / 2}: step ${saidStep} was saved, ${foundStep} is there` +
            (leftover ? ', a checkpoint was half-written' : ''),
        ),
    })
    console.log(
      `${name}: ${outcome.kills} kills, ${outcome.inSaving} of them in saving; ${outcome.finished} runs to their end, the same bits`,
    )
  } catch (error) {
    failed += 1
    console.log(`${name}: ${error instanceof Error ? error.message : error}`)
  }
}
rmSync(folder, { recursive: true, force: true })
console.log(failed === 0 ? 'nothing was lost' : `${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1
