// From `resume_from_checkpoint` to the checkpoint that a run goes on from. Reads; changes nothing.

import { existsSync } from 'node:fs'
import type { Config } from '../config/index.js'
import { LoraTrainError } from '../native/errors.js'
import { isCancelled } from './cancel.js'
import { type Checkpoint, type ReadOptions, readCheckpoint } from './checkpoint_files.js'
import { type CheckpointFolder, checkpointsIn } from './checkpoints.js'

/** What a run starts from, and what is to be said of it. */
export interface Beginning {
  /** null: from the base model. */
  checkpoint: Checkpoint | null
  notices: string[]
}

type Resuming = Pick<Config, 'resume_from_checkpoint'>

/** Whether a run begins at a checkpoint. */
export const goesOn = ({ resume_from_checkpoint: from }: Resuming): boolean => from !== null && from !== false

/**
 * Finds the checkpoint: the folder that is named, or the newest whole one of `outputDir`.
 *
 * Throws `CONFIG` where there is none, and `MODEL_FILES` where the named one, or every one, is damaged.
 */
export const beginningOf = async (
  { resume_from_checkpoint: from }: Resuming,
  outputDir: string,
  options: ReadOptions = {},
): Promise<Beginning> => {
  if (typeof from === 'string') return { checkpoint: await named(from, options), notices: [] }
  const found = await checkpointsIn(outputDir)
  if (from === true) return newestWhole(outputDir, found, options)
  const newest = found.at(-1)
  if (newest === undefined) return { checkpoint: null, notices: [] }
  const what = `${outputDir} holds checkpoints of an earlier run, up to step ${newest.step}`
  return {
    checkpoint: null,
    notices: [`${what}; this run starts anew (--resume_from_checkpoint true goes on from there)`],
  }
}

const named = async (path: string, options: ReadOptions): Promise<Checkpoint> => {
  if (existsSync(path)) return readCheckpoint(path, options)
  throw new LoraTrainError(
    'CONFIG',
    `resume_from_checkpoint: ${path} does not exist`,
    'Name a folder checkpoint-N, or true for the newest in output_dir.',
  )
}

const newestWhole = async (
  outputDir: string,
  found: readonly CheckpointFolder[],
  options: ReadOptions,
): Promise<Beginning> => {
  const notices: string[] = []
  let first: LoraTrainError | undefined
  for (const { path } of [...found].reverse()) {
    try {
      const checkpoint = await readCheckpoint(path, options)
      if (first !== undefined) notices.push(`${first.message}; ${path}, the newest whole one, is taken`)
      return { checkpoint, notices }
    } catch (error) {
      if (!(error instanceof LoraTrainError) || isCancelled(error)) throw error
      first ??= error
    }
  }
  if (first !== undefined) {
    const hint = `None of the ${found.length} checkpoints in ${outputDir} is whole: start anew.`
    throw new LoraTrainError('MODEL_FILES', first.message, hint)
  }
  throw new LoraTrainError(
    'CONFIG',
    `resume_from_checkpoint: there is no checkpoint in ${outputDir}`,
    'Leave it out to start anew, or name the folder.',
  )
}
