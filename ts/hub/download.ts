// Files of one commit of a model, from the hub into its cache: blobs by their hash, and links to them by name.
// A blob is written beside its place, compared with the size and the hash that the hub gave, and renamed.
// Never asks which files are wanted.

import { createHash, randomUUID } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { link, mkdir, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { ReadableStream } from 'node:stream/web'
import { downloadFile, HubApiError, type ListFileEntry } from '@huggingface/hub'
import { LoraTrainError } from '../native/errors.js'
import type { HubEvent } from '../trainer/events.js'

export interface Download {
  id: string
  /** The model's folder in the cache, and that of the commit in it. */
  repo: string
  folder: string
  commit: string
  access: { hubUrl?: string; accessToken?: string; fetch: typeof fetch }
  signal: AbortSignal | undefined
  onEvent: (event: HubEvent) => void
}

/** A file that is whole in the cache. */
interface Blob {
  name: string
  path: string
  sizeBytes: number
}

const progressIntervalMs = 100

/** Downloads those of `files` that the cache lacks, one after another. Throws what broke. */
export const downloadFiles = async (download: Download, files: readonly ListFileEntry[]): Promise<Blob[]> => {
  const blobs = files.map((entry) => ({ entry, blob: blobOf(download.repo, entry) }))
  const missing: typeof blobs = []
  for (const file of blobs) if (!(await isWhole(file.blob.path, file.blob.sizeBytes))) missing.push(file)
  const totalBytes = missing.reduce((sum, { blob }) => sum + blob.sizeBytes, 0)
  const { id, folder, onEvent } = download
  const started = performance.now()
  let doneBytes = 0
  let toldAt = Number.NEGATIVE_INFINITY
  const count = (bytes: number): void => {
    doneBytes += bytes
    const now = performance.now()
    if (now - toldAt < progressIntervalMs) return
    toldAt = now
    const elapsedMs = now - started
    const leftMs = doneBytes > 0 ? Math.max(0, (elapsedMs / doneBytes) * (totalBytes - doneBytes)) : null
    onEvent({ type: 'downloading', id, doneBytes, totalBytes, elapsedMs, leftMs })
  }
  for (const { entry, blob } of missing) await downloadBlob(download, entry, blob, count)
  if (missing.length > 0)
    onEvent({
      type: 'downloaded',
      id,
      bytes: totalBytes,
      elapsedMs: performance.now() - started,
      path: folder,
    })
  return blobs.map(({ blob }) => blob)
}

/** Gives the blobs their names in the commit's folder. */
export const linkFiles = async ({ folder }: Download, blobs: readonly Blob[]): Promise<void> => {
  await mkdir(folder, { recursive: true })
  for (const { name, path, sizeBytes } of blobs) {
    const pointer = join(folder, name)
    if (await isWhole(pointer, sizeBytes)) continue
    await rm(pointer, { force: true })
    // Windows lets few people make symbolic links; a hard link costs no bytes either.
    await symlink(relative(folder, path), pointer).catch(() => link(path, pointer))
  }
}

/** Notes which commit a branch or a tag is. */
export const writeRef = async (repo: string, revision: string, commit: string): Promise<void> => {
  const path = join(repo, 'refs', revision)
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, commit)
}

/** The failure of a call that writes into the cache. */
export const cacheError = (error: unknown, repo: string): LoraTrainError =>
  new LoraTrainError(
    'MODEL_FILES',
    `the hub's cache ${repo} can't be written (${(error as NodeJS.ErrnoException).code ?? 'unknown'})`,
    'Free some space, or set HF_HUB_CACHE to a folder that you may write to.',
  )

const blobOf = (repo: string, { path: name, size: sizeBytes, lfs, xetHash, oid }: ListFileEntry): Blob => {
  // The names that huggingface_hub gives, so that both find each other's files.
  const hash = lfs?.oid ?? xetHash ?? oid ?? ''
  if (!/^[0-9a-f]{40,64}$/.test(hash) || !Number.isSafeInteger(sizeBytes) || sizeBytes < 0)
    throw new LoraTrainError('MODEL_FILES', `the hub gives no hash and size of ${name}`, 'Check HF_ENDPOINT.')
  return { name, path: join(repo, 'blobs', hash), sizeBytes }
}

const isWhole = (path: string, sizeBytes: number): Promise<boolean> =>
  stat(path).then(
    ({ size }) => size === sizeBytes,
    () => false,
  )

/** What the hub says that the content's hash is: SHA-256 of large files, git's of small ones. */
const hashOf = ({ lfs, xetHash, oid, size }: ListFileEntry) => {
  if (lfs !== undefined) return { hash: createHash('sha256'), expected: lfs.oid }
  if (xetHash !== undefined) return null
  return { hash: createHash('sha1').update(`blob ${size}\0`), expected: oid }
}

const downloadBlob = async (
  { id, commit, access, signal }: Download,
  entry: ListFileEntry,
  { name, path, sizeBytes }: Blob,
  count: (bytes: number) => void,
): Promise<void> => {
  await mkdir(dirname(path), { recursive: true })
  const beside = `${path}.${randomUUID()}.incomplete`
  const check = hashOf(entry)
  let bytes = 0
  const counted = async function* (chunks: AsyncIterable<Uint8Array>) {
    for await (const chunk of chunks) {
      bytes += chunk.length
      check?.hash.update(chunk)
      count(chunk.length)
      yield chunk
    }
  }
  count(0)
  try {
    const body = await downloadFile({ repo: id, path: name, revision: commit, ...access })
    if (body === null) throw new Error('the hub does not have it')
    const file = createWriteStream(beside, { flush: true })
    const stream = Readable.fromWeb(body.stream() as ReadableStream<Uint8Array>)
    await pipeline(stream, counted, file, { ...(signal && { signal }) })
    if (bytes !== sizeBytes) throw new Error(`${bytes} of ${sizeBytes} bytes came`)
    if (check !== null && check.hash.digest('hex') !== check.expected)
      throw new Error('its hash is not what the hub says')
    await rename(beside, path)
  } catch (error) {
    await rm(beside, { force: true })
    throw error instanceof HubApiError || isOfFiles(error) ? error : brokenOff(name, error)
  }
}

/** Whether a call on the disk failed: fetch wraps the errors of its sockets, so that only files have a syscall. */
export const isOfFiles = (error: unknown): boolean =>
  error instanceof Error && typeof (error as NodeJS.ErrnoException).syscall === 'string'

const brokenOff = (name: string, error: unknown): LoraTrainError =>
  new LoraTrainError(
    'MODEL_FILES',
    `the download of ${name} from the hub failed: ${error instanceof Error ? error.message : String(error)}`,
    'Start it again; files that are whole are kept.',
  )
