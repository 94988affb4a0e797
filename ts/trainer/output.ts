// The folders of a run and the files that the trainer itself writes. A file appears whole or not at all; a folder
// that was made for a run and stayed empty goes away again. Tensors and tokenizers are written by the engine.

import { randomUUID } from 'node:crypto'
import { access, constants, mkdir, open, rename, rm, rmdir, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { LoraTrainError } from '../native/errors.js'
import { trainerStateFile } from './checkpoint_files.js'

/** The folders that were made for a run. */
export interface MadeFolders {
  /** Removes those of them that are still empty. */
  removeEmpty(): Promise<void>
}

/**
 * Makes the folders of `paths`, with those above them, and checks that they can be written to.
 *
 * Throws `OUTPUT` where that fails; what was made until then is gone again.
 */
export const makeFolders = async (paths: readonly string[]): Promise<MadeFolders> => {
  const made: string[] = []
  const removeEmpty = async (): Promise<void> => {
    // Deepest first; a folder that holds something, or that someone else took away, stays as it is.
    for (const folder of [...made].reverse()) await rmdir(folder).catch(() => undefined)
  }
  for (const path of paths) {
    try {
      await makeFolder(path, made)
      await access(path, constants.W_OK)
    } catch (error) {
      await removeEmpty()
      throw outputError(error, `the output folder ${path} can't be used`)
    }
  }
  return { removeEmpty }
}

/**
 * Makes the folder `path` and those above it that are missing, and adds each of them to `made`. Node's own
 * `recursive` never returns where no folder can be made, as in /proc.
 */
export const makeFolder = async (path: string, made: string[] = []): Promise<void> => {
  const missing: string[] = []
  for (let at = resolve(path); !(await isFolder(at)) && at !== dirname(at); at = dirname(at))
    missing.unshift(at)
  for (const folder of missing) {
    try {
      await mkdir(folder)
      made.push(folder)
    } catch (error) {
      // Someone else may have made it meanwhile.
      if (!(await isFolder(folder))) throw error
    }
  }
}

const isFolder = async (path: string): Promise<boolean> => {
  try {
    return (await stat(path)).isDirectory()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw error
  }
}

/**
 * Writes `content` beside `path`, syncs it to disk and renames it into place.
 *
 * Throws `OUTPUT` where that fails; then `path` is what it was, and nothing lies beside it.
 */
export const writeWhole = async (path: string, content: string | Uint8Array): Promise<void> => {
  const beside = `${path}.${randomUUID()}.tmp`
  try {
    const file = await open(beside, 'w')
    try {
      await file.writeFile(content)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(beside, path)
    await syncFolder(dirname(path))
  } catch (error) {
    await rm(beside, { force: true }).catch(() => undefined)
    throw outputError(error, `${path} can't be written`)
  }
}

/** Makes a rename last through a power cut. Windows can't open folders, and needs no such step. */
export const syncFolder = async (path: string): Promise<void> => {
  if (process.platform === 'win32') return
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

const reasons: Record<string, [why: string, hint: string]> = {
  ENOTDIR: ['part of the path is a file', 'Choose a path below folders only.'],
  ENOENT: ['no folder can be made there', 'Choose a folder that you may write to.'],
  EEXIST: ['there is a file of that name', 'Choose another name or move the file away.'],
  EACCES: ['no permission', 'Choose a folder that you may write to.'],
  EPERM: ['no permission', 'Choose a folder that you may write to.'],
  EROFS: ['the file system is read-only', 'Choose a folder that you may write to.'],
  ENOSPC: ['the disk is full', 'Free some space or choose another disk.'],
  EDQUOT: ['the quota is used up', 'Free some space or choose another disk.'],
  ENAMETOOLONG: ['the name is too long', 'Choose a shorter name.'],
}

/** `OUTPUT`, with what went wrong and what to do. What is a `LoraTrainError` already stays as it is. */
export const outputError = (error: unknown, what: string): LoraTrainError => {
  if (error instanceof LoraTrainError) return error
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown'
  const [why, hint] = reasons[code] ?? [code, 'Choose another output_dir.']
  return new LoraTrainError('OUTPUT', `${what}: ${why}`, hint)
}

/** Where `trainer_state.json` lies. */
export const statePath = (outputDir: string): string => join(outputDir, trainerStateFile)

/** What a report leaves in an output folder, also of a run that does not end whole. */
export const reportNames = {
  svg: 'loss.svg',
  png: 'loss.png',
  page: 'report.html',
  board: 'runs',
} as const
