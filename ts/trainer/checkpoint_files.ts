// What lies in a checkpoint beside weights, optimizer and tokenizer: where the run was, what must agree when it goes
// on, and a checksum of each file. Reads and checks; writes nothing.

import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir, readFile, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { z } from 'zod'
import { LoraTrainError } from '../native/errors.js'
import { isCancelled, throwIfCancelled } from './cancel.js'
import type { LogLine } from './state.js'
import type { Count, Work } from './working.js'

/** The file that makes a folder a checkpoint of lora-train. */
export const stateFile = 'lora_train_state.json'
/** Transformers' file, which holds the log. */
export const trainerStateFile = 'trainer_state.json'

/** Both files are a page, or a line for each log line; what is larger is none of ours. */
const largestBytes = 256 << 20

const count = z.int().min(0)
const sha256 = z.string().regex(/^[0-9a-f]{64}$/)

/** Where a run was: what the loop needs to go on as if it had never stopped. */
const RunState = z.strictObject({
  step: count,
  epoch: z.number(),
  tokens: count,
  lossSum: z.number(),
  lossSumSinceLog: z.number(),
  stepsSinceLog: count,
  evaluationPending: z.boolean(),
  elapsedMs: z.number().min(0),
})
export type RunState = z.output<typeof RunState>

const Agreement = z.strictObject({
  options: z.record(z.string(), z.json()),
  totalSteps: count,
  warmupSteps: count,
  model: z.string(),
  rows: z.string(),
})
/** What must be the same when the run goes on. */
export type Agreement = z.output<typeof Agreement>

const Body = z.strictObject({
  version: z.string(),
  run: RunState,
  agreement: Agreement,
  /** By name; this file is not among them. */
  files: z.record(z.string(), z.strictObject({ bytes: count, sha256 })),
})
export type Body = z.output<typeof Body>

const TrainerState = z.looseObject({
  global_step: count,
  log_history: z.array(z.record(z.string(), z.number())),
})

/** A checkpoint that is whole. */
export interface Checkpoint extends Omit<Body, 'files'> {
  path: string
  log_history: LogLine[]
}

/** The text of the state file. Its first key is the checksum of all that follows. */
export const stateFileText = (body: Body): string =>
  `${JSON.stringify({ sha256: textSha256(JSON.stringify(body)), ...body }, null, 2)}\n`

/**
 * Size and checksum of each file of `folder`, by name, in the order of the names. The one who waits sees them as those
 * of `path`, where the folder will be.
 */
export const filesOf = async (folder: string, path: string, work: Work): Promise<Body['files']> => {
  const names = (await readdir(folder)).sort().filter((name) => name !== stateFile)
  const count: Count = { done: 0, total: 0 }
  for (const name of names) count.total += (await stat(join(folder, name))).size
  work.begin({ what: 'hashing', path, unit: 'bytes', count: () => count })
  const files: Body['files'] = {}
  for (const name of names) files[name] = await fileSha256(join(folder, name), { count })
  return files
}

export interface ReadOptions {
  /** Is told of each byte. */
  work?: Work
  /** Ends the reading. */
  signal?: AbortSignal | undefined
}

/**
 * Reads the checkpoint `path`, every byte of it.
 *
 * Throws `MODEL_FILES` where it is none, or where a file is missing or not what was written.
 */
export const readCheckpoint = async (
  path: string,
  { work, signal }: ReadOptions = {},
): Promise<Checkpoint> => {
  const { files, ...body } = checkedBody(path, await readJson(path, stateFile))
  const count: Count = { done: 0, total: 0 }
  for (const { bytes } of Object.values(files)) count.total += bytes
  work?.begin({ what: 'hashing', path, unit: 'bytes', count: () => count })
  for (const [name, { bytes, sha256 }] of Object.entries(files)) {
    if (name !== basename(name))
      throw damaged(path, `${stateFile} names ${JSON.stringify(name)}, no plain file`)
    const found = await fileSha256(join(path, name), { count, signal }).catch((error) => {
      if (isCancelled(error)) throw error
    })
    if (found === undefined) throw damaged(path, `${name} is missing`)
    if (found.bytes !== bytes) throw damaged(path, `${name} has ${found.bytes} bytes, ${bytes} were written`)
    if (found.sha256 !== sha256)
      throw damaged(path, `the checksum of ${name} is not that of what was written`)
  }
  const trainer = TrainerState.safeParse(await readJson(path, trainerStateFile))
  if (!trainer.success || trainer.data.global_step !== body.run.step) {
    throw damaged(path, `${trainerStateFile} is not that of step ${body.run.step}`)
  }
  // The file is to the byte what this trainer wrote: its lines have the keys of a log line.
  return { path, ...body, log_history: trainer.data.log_history as object as LogLine[] }
}

const checkedBody = (path: string, json: unknown): Body => {
  const { sha256, ...rest } = (json ?? {}) as Record<string, unknown>
  if (sha256 !== textSha256(JSON.stringify(rest))) {
    throw damaged(path, `the checksum in ${stateFile} is not that of its contents`)
  }
  const body = Body.safeParse(rest)
  if (body.success) return body.data
  const [issue] = body.error.issues
  throw damaged(path, `${stateFile}: ${issue?.path.join('.')}: ${issue?.message}`)
}

const readJson = async (path: string, name: string): Promise<unknown> => {
  const file = join(path, name)
  try {
    if ((await stat(file)).size > largestBytes) throw damaged(path, `${name} is too long`)
    return JSON.parse(await readFile(file, 'utf8'))
  } catch (error) {
    if (error instanceof LoraTrainError) throw error
    if (error instanceof SyntaxError) throw damaged(path, `${name} is not JSON`)
    throw notOurs(path, name, (error as NodeJS.ErrnoException).code ?? String(error))
  }
}

const damaged = (path: string, why: string): LoraTrainError =>
  new LoraTrainError(
    'MODEL_FILES',
    `${path}: the checkpoint is damaged: ${why}`,
    'Go on from another checkpoint; --resume_from_checkpoint true takes the newest that is whole.',
  )

const notOurs = (path: string, name: string, code: string): LoraTrainError => {
  const why =
    code === 'ENOENT' || code === 'ENOTDIR' ? `there is no ${name}` : `${name} can't be read: ${code}`
  return new LoraTrainError(
    'MODEL_FILES',
    `${path}: is no checkpoint of lora-train: ${why}`,
    'Name a folder checkpoint-N of an output_dir; checkpoints of other trainers are not read.',
  )
}

const textSha256 = (text: string): string => createHash('sha256').update(text).digest('hex')

/** Piece by piece, so that the event loop stays free. */
const fileSha256 = async (
  file: string,
  { count, signal }: { count: Count; signal?: AbortSignal | undefined },
): Promise<{ bytes: number; sha256: string }> => {
  const hash = createHash('sha256')
  let bytes = 0
  for await (const piece of createReadStream(file, { highWaterMark: 1 << 20 })) {
    bytes += piece.length
    hash.update(piece)
    count.done += piece.length
    throwIfCancelled(signal)
  }
  return { bytes, sha256: hash.digest('hex') }
}
