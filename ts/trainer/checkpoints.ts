// The folders checkpoint-N of an output folder. One appears by one rename, whole, and goes away by one; what a kill
// leaves behind has a hidden name and is removed when the next run starts. Tensors are written by the engine.

import { randomUUID } from 'node:crypto'
import { mkdir, readdir, rename, rm } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { type Body, filesOf, stateFile, stateFileText } from './checkpoint_files.js'
import { outputError, syncFolder, writeWhole } from './output.js'
import type { Work } from './working.js'

/** A folder by its name; whether it is whole is for `readCheckpoint` to say. */
export interface CheckpointFolder {
  step: number
  path: string
}

export const checkpointPath = (outputDir: string, step: number): string =>
  join(outputDir, `checkpoint-${step}`)

/** What a checkpoint is called from when another of its step is whole until that one has its name. */
const replacedPath = (outputDir: string, step: number): string =>
  `${checkpointPath(outputDir, step)}.replaced`

/** The checkpoints of `outputDir`, by step, the newest last. */
export const checkpointsIn = async (outputDir: string): Promise<CheckpointFolder[]> => {
  const names = await readdir(outputDir).catch((): string[] => [])
  return names
    .flatMap((name) => {
      const found = /^checkpoint-(\d{1,15})(\.replaced)?$/.exec(name)
      const lies = found !== null && !(found[2] !== undefined && names.includes(`checkpoint-${found[1]}`))
      return lies ? [{ step: Number(found[1]), path: join(outputDir, name) }] : []
    })
    .sort((a, b) => a.step - b.step)
}

/** A folder being written or removed, under this name only while that lasts. */
const hidden = (outputDir: string, step: number): string =>
  join(outputDir, `.checkpoint-${step}.${randomUUID()}.tmp`)

const uuid = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'
/** What this trainer and the engine call what is not whole yet. */
const unfinished = new RegExp(
  `^(checkpoint-\\d+\\.replaced|\\.checkpoint-\\d+\\.${uuid}\\.tmp|.+\\.${uuid}\\.tmp|.+\\.tmp-\\d+-\\d+)$`,
)

/**
 * Removes what runs that were killed have left in `folder`, and beside it under its name. A checkpoint that was to be
 * replaced, and was not yet, gets its name back.
 */
export const removeLeftovers = async (folder: string): Promise<void> => {
  const beside = dirname(resolve(folder))
  const own = basename(resolve(folder))
  const inside = await readdir(folder).catch((): string[] => [])
  const siblings = await readdir(beside).catch((): string[] => [])
  for (const name of inside) {
    const [, own] = /^(checkpoint-\d{1,15})\.replaced$/.exec(name) ?? []
    if (own !== undefined && !inside.includes(own))
      await rename(join(folder, name), join(folder, own)).catch(() => undefined)
  }
  const left = [
    ...(await readdir(folder).catch((): string[] => []))
      .filter((name) => unfinished.test(name))
      .map((name) => join(folder, name)),
    ...siblings
      .filter((name) => name.startsWith(`${own}.tmp-`) && unfinished.test(name))
      .map((name) => join(beside, name)),
  ]
  // A folder that can't be written to is refused elsewhere, with its reason.
  for (const path of left) await rm(path, { recursive: true, force: true }).catch(() => undefined)
}

export interface NewCheckpoint {
  outputDir: string
  /** Puts everything but the state file into the folder, synced. */
  fill: (folder: string) => Promise<void>
  state: Omit<Body, 'files'>
  /** Is told of what takes long. */
  work: Work
}

/**
 * Writes `checkpoint-STEP` and returns its path. One of that name is replaced.
 *
 * Throws what `fill` throws, and `OUTPUT`; then no new folder is there, and every older one is what it was.
 */
export const writeCheckpoint = async ({ outputDir, fill, state, work }: NewCheckpoint): Promise<string> => {
  const { step } = state.run
  const path = checkpointPath(outputDir, step)
  const folder = hidden(outputDir, step)
  try {
    await mkdir(folder)
    await fill(folder)
    const files = await filesOf(folder, path, work)
    await writeWhole(join(folder, stateFile), stateFileText({ ...state, files }))
    await syncFolder(folder)
    // A rename does not replace a folder that holds something: for a moment the old one has another name, under
    // which it is still found.
    const old = replacedPath(outputDir, step)
    await setAside(path, old)
    try {
      await rename(folder, path)
    } catch (error) {
      await setAside(old, path)
      throw error
    }
    await syncFolder(outputDir)
    await retire({ step, path: old }).catch(() => undefined)
    return path
  } catch (error) {
    throw outputError(error, `${path} can't be written`)
  } finally {
    // After the rename there is nothing of that name.
    await rm(folder, { recursive: true, force: true }).catch(() => undefined)
  }
}

/**
 * Removes the oldest checkpoints until `limit` are left. The one of `step` stays; later ones belong to an earlier
 * run and are the oldest. Returns what is to be said of those that can't be removed: the run is none the worse for them.
 */
export const keepNewest = async (outputDir: string, step: number, limit: number): Promise<string[]> => {
  const left: string[] = []
  const all = await checkpointsIn(outputDir)
  const byAge = [...all.filter((folder) => folder.step > step), ...all.filter((folder) => folder.step < step)]
  for (const folder of byAge.slice(0, Math.max(0, all.length - limit))) {
    try {
      await retire(folder)
    } catch (error) {
      const { message } = outputError(error, `save_total_limit: ${folder.path} can't be removed`)
      left.push(`${message}; it stays`)
    }
  }
  return left
}

/** Gives a folder another name, if it is there. */
const setAside = async (path: string, to: string): Promise<void> => {
  try {
    await rename(path, to)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

/** Takes a checkpoint away: first its name, at once, then its files. */
const retire = async ({ step, path }: CheckpointFolder): Promise<void> => {
  const away = hidden(dirname(path), step)
  try {
    await rename(path, away)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  await rm(away, { recursive: true, force: true })
}
