// Whether the disk has room for what a run will write. Asks before the run; writes nothing.

import { stat, statfs } from 'node:fs/promises'
import { counted } from '../config/counted.js'
import { type Config, formatBytes } from '../config/index.js'
import type { Plan } from '../native/contract.js'
import { LoraTrainError } from '../native/errors.js'
import { checkpointsIn } from './checkpoints.js'
import { intervalOf, type RunLength } from './schedule.js'

/** Checkpoints that a run writes from `step` on. */
const savesOf = (
  { save_strategy, save_steps }: Pick<Config, 'save_strategy' | 'save_steps'>,
  { totalSteps, stepsPerEpoch }: RunLength,
  step: number,
): number => {
  if (save_strategy === 'no' || step >= totalSteps) return 0
  const interval = save_strategy === 'epoch' ? stepsPerEpoch : intervalOf(totalSteps, save_steps)
  // One more comes at the end, where the interval does not.
  return Math.ceil(totalSteps / interval) - Math.floor(step / interval)
}

export interface DiskNeeds {
  config: Pick<Config, 'save_strategy' | 'save_steps' | 'save_total_limit'>
  plan: Plan
  length: RunLength
  /** Steps that are done already. */
  step: number
  outputDir: string
  resultDir: string
}

/** Throws `OUTPUT` where a disk has less room than the run will take on it. */
export const refuseFullDisk = async (needs: DiskNeeds): Promise<void> => {
  const { config, plan, length, step, outputDir, resultDir } = needs
  const { checkpoint, result } = plan.saved
  const there = (await checkpointsIn(outputDir)).length
  const saves = savesOf(config, length, step)
  // The new one is whole before the oldest goes.
  const most = (config.save_total_limit ?? Number.POSITIVE_INFINITY) + 1
  const more = saves === 0 ? 0 : Math.max(1, Math.min(saves, most - there))
  const places = [
    // A paged state lies there while the run lasts.
    { path: outputDir, bytes: more * checkpoint + plan.mapped.optimizer },
    { path: resultDir, bytes: result },
  ]
  const what = [
    ...(more > 0 ? [`${counted(more, 'checkpoint')} of ${formatBytes(checkpoint)}`] : []),
    ...(plan.mapped.optimizer > 0 ? [`the paged state of ${formatBytes(plan.mapped.optimizer)}`] : []),
    'the result',
  ].join(' and ')
  await refuseFull(
    places,
    `${what} ${what === 'the result' ? 'takes' : 'take'}`,
    'Free some space, choose another disk, or set save_total_limit or a larger save_steps.',
  )
}

/** Bytes that will lie in a folder, which is there. */
export interface Place {
  path: string
  bytes: number
}

/** Throws `OUTPUT` where a disk has less room than its places together; `what` says what takes it, with the verb. */
export const refuseFull = async (places: readonly Place[], what: string, hint: string): Promise<void> => {
  const devices = await Promise.all(places.map(async ({ path }) => (await stat(path)).dev))
  for (const [at, { path }] of places.entries()) {
    const bytes = places
      .filter((_, other) => devices[other] === devices[at])
      .reduce((sum, place) => sum + place.bytes, 0)
    const { blocks, bavail, bsize } = await statfs(path)
    // A file system that does not count its blocks says nothing.
    if (blocks === 0 || bytes <= bavail * bsize) continue
    throw new LoraTrainError(
      'OUTPUT',
      `${path}: ${what} ${bytes} bytes (${formatBytes(bytes)}), ${bavail * bsize} (${formatBytes(bavail * bsize)}) are free`,
      hint,
    )
  }
}
