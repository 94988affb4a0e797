// Whether an output folder is free: what an earlier run has left is not written over unless that is asked for, and
// results are not mixed with somebody's files. Reads names; changes nothing.

import { readdir } from 'node:fs/promises'
import { basename, join, resolve, sep } from 'node:path'
import { counted } from '../config/counted.js'
import type { Config } from '../config/index.js'
import { LoraTrainError } from '../native/errors.js'
import { trainerStateFile } from './checkpoint_files.js'
import { checkpointsIn } from './checkpoints.js'
import { outputError, reportNames } from './output.js'
import { goesOn } from './resume.js'

const otherwise = 'or replace what is there with --overwrite_output_dir true.'

/** Throws `OUTPUT` where `path` holds anything, unless it may be overwritten. */
export const refuseFilled = async (
  path: string,
  { overwrite_output_dir: overwrites }: Pick<Config, 'overwrite_output_dir'>,
): Promise<void> => {
  if (!overwrites) refuse(path, await namesIn(path), `Choose an empty folder, ${otherwise}`)
}

/** What a run may find in its folders is told by these. */
export type Fillable = Pick<
  Config,
  'overwrite_output_dir' | 'resume_from_checkpoint' | 'logging_dir' | 'quantized_cache_dir'
>

/**
 * Throws `OUTPUT` where one of a run's folders holds more than a run leaves that did not end whole: checkpoints, their
 * report, TensorBoard's events. A run that goes on from a checkpoint, or that may overwrite, takes any folder.
 */
export const refuseResults = async (folders: readonly string[], config: Fillable): Promise<void> => {
  if (config.overwrite_output_dir || goesOn(config)) return
  const written = [...folders, config.logging_dir ?? '', config.quantized_cache_dir]
  for (const path of folders) {
    const checkpoints = (await checkpointsIn(path)).map((checkpoint) => basename(checkpoint.path))
    const expected = new Set([...checkpoints, ...Object.values(reportNames)])
    const names = (await namesIn(path)).filter(
      (name) => !expected.has(name) && !written.some((other) => isAtOrIn(other, join(path, name))),
    )
    const ways = `Choose an empty folder, go on from a checkpoint with --resume_from_checkpoint, ${otherwise}`
    refuse(path, names, ways)
  }
}

/** Names that begin with a dot are the system's, an editor's or git's. */
const namesIn = async (path: string): Promise<string[]> => {
  const names = await readdir(path).catch((error: NodeJS.ErrnoException): string[] => {
    // What is no folder is refused, with the reason, when it is to be one.
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return []
    throw outputError(error, `the output folder ${path} can't be used`)
  })
  return names.filter((name) => !name.startsWith('.')).sort()
}

const isAtOrIn = (path: string, folder: string): boolean =>
  `${resolve(path)}${sep}`.startsWith(`${resolve(folder)}${sep}`)

const shownMax = 3

const refuse = (path: string, names: readonly string[], hint: string): void => {
  if (names.length === 0) return
  const what = names.includes(trainerStateFile) ? 'a finished run' : counted(names.length, 'file')
  const more = names.length > shownMax ? ` and ${names.length - shownMax} more` : ''
  const shown = `${names.slice(0, shownMax).join(', ')}${more}`
  throw new LoraTrainError('OUTPUT', `the output folder ${path} holds ${what} already: ${shown}`, hint)
}
