// A model of the Hugging Face hub in the hub's cache, in the layout of huggingface_hub: found there, or brought there.
// Never prints; a file stands under its name in the cache only when it is whole.

import { readdir, readFile, stat } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { HubApiError, type ListFileEntry, listFiles, modelInfo } from '@huggingface/hub'
import { LoraTrainError } from '../native/errors.js'
import { cacheError, type Download, downloadFiles, isOfFiles, linkFiles, writeRef } from './download.js'
import type { HubOptions, Need } from './resolve.js'

type Env = NonNullable<HubOptions['env']>

export interface Wanted {
  id: string
  revision: string
  need: Need
}

/** The folder of the cache that holds what is wanted, after downloading what is not there yet. */
export const snapshotOf = async (wanted: Wanted, options: HubOptions): Promise<string> => {
  const { id, revision } = wanted
  const { env = process.env, signal, onEvent = () => undefined } = options
  if (!/^[\w][\w./-]*$/.test(revision) || revision.includes('..'))
    throw new LoraTrainError(
      'CONFIG',
      `model_revision ${revision} is no branch, tag or commit`,
      'Correct it.',
    )
  const repo = join(cacheOf(env), `models--${id.replace('/', '--')}`)
  const cached = await cachedSnapshot(repo, wanted)
  if (isOffline(env)) {
    if (cached !== null) return cached
    throw new LoraTrainError(
      'MODEL_FILES',
      `${id} is not whole in the hub's cache ${repo}, and HF_HUB_OFFLINE is set`,
      'Run once without HF_HUB_OFFLINE, or give the path of a folder.',
    )
  }
  const access = accessOf(env, signal)
  try {
    const { commit, files } = await listed(wanted, access)
    const folder = join(repo, 'snapshots', commit)
    const download: Download = { id, repo, folder, commit, access, signal, onEvent }
    await linkFiles(download, await downloadFiles(download, files))
    // Last, so that a branch never leads to a snapshot that lacks files.
    if (revision !== commit) await writeRef(repo, revision, commit)
    return folder
  } catch (error) {
    if (signal?.aborted)
      throw new LoraTrainError('CANCELLED', 'the download was interrupted', 'Start it again.')
    if (error instanceof LoraTrainError) throw error
    if (error instanceof HubApiError) throw refusalOf(error, wanted)
    if (isOfFiles(error)) throw cacheError(error, repo)
    if (cached === null) throw unreachable(error)
    onEvent({ type: 'notice', message: `the hub can't be reached (${reasonOf(error)}); using ${cached}` })
    return cached
  }
}

const cacheOf = ({ HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME }: Env): string =>
  HF_HUB_CACHE ||
  HUGGINGFACE_HUB_CACHE ||
  join(HF_HOME || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface'), 'hub')

const isOffline = ({ HF_HUB_OFFLINE = '' }: Env): boolean => /^(1|on|yes|true)$/i.test(HF_HUB_OFFLINE)

const isCommit = (text: string): boolean => /^[0-9a-f]{40}$/.test(text)

/** A file without which a snapshot is not what is needed. */
const neededFile: Readonly<Record<Need, RegExp>> = {
  model: /\.safetensors$|^pytorch_model.*\.bin$/,
  config: /^config\.json$/,
  tokenizer: /^(tokenizer|vocab|merges)/,
}

/** The snapshot that the cache has of a revision, with weights where they are needed. */
const cachedSnapshot = async (repo: string, { revision, need }: Wanted): Promise<string | null> => {
  const commit = isCommit(revision)
    ? revision
    : await readFile(join(repo, 'refs', revision), 'utf8').then(
        (text) => text.trim(),
        () => '',
      )
  if (!isCommit(commit)) return null
  const folder = join(repo, 'snapshots', commit)
  const names = await readdir(folder).catch(() => [])
  const whole = await Promise.all(names.map((name) => stat(join(folder, name)).then(Boolean, () => false)))
  const hasNeeded = names.some((name) => neededFile[need].test(name))
  return hasNeeded && whole.every(Boolean) ? folder : null
}

/** How the library is to reach the hub. Its default endpoint is its own matter. */
const accessOf = ({ HF_ENDPOINT, HF_TOKEN }: Env, signal: AbortSignal | undefined): Download['access'] => {
  const token = HF_TOKEN?.trim()
  if (token && !token.startsWith('hf_'))
    throw new LoraTrainError(
      'MODEL_FILES',
      'HF_TOKEN is no token of the hub',
      'A token begins with hf_; unset HF_TOKEN for public models.',
    )
  return {
    ...(HF_ENDPOINT && { hubUrl: HF_ENDPOINT.replace(/\/+$/, '') }),
    ...(token && { accessToken: token }),
    fetch: (input, init) => fetch(input, { ...init, ...(signal && { signal }) }),
  }
}

/** The commit of the revision, and those of its files that are needed. */
const listed = async ({ id, revision, need }: Wanted, access: Download['access']) => {
  const { sha: commit } = await modelInfo({ name: id, revision, additionalFields: ['sha'], ...access })
  if (!isCommit(commit)) throw new Error('its answer has no commit')
  const all: ListFileEntry[] = []
  for await (const entry of listFiles({ repo: id, revision: commit, ...access })) all.push(entry)
  // A name with a separator could lead out of the cache.
  const files = all.filter(({ type, path }) => type === 'file' && /^\w[\w.-]*$/.test(path))
  if (need === 'config') {
    const config = files.filter(({ path }) => neededFile.config.test(path))
    if (config.length > 0) return { commit, files: config }
    throw new LoraTrainError(
      'MODEL_FILES',
      `${id} on the hub has no config.json`,
      'Choose a model that has one, or give the path of a .gguf file.',
    )
  }
  const small = files.filter(({ path }) => isSmallFile(path))
  if (need === 'tokenizer') return { commit, files: small }
  // The first form that the model has; the engine looks for them in the same order.
  const forms = weightNames.map((form) => files.filter(({ path }) => form.test(path)))
  const weights = forms.find((found) => found.length > 0)
  if (weights === undefined)
    throw new LoraTrainError(
      'MODEL_FILES',
      `${id} on the hub has no weights in safetensors or pytorch_model.bin`,
      'Choose a model that has model.safetensors, or give the path of a .gguf file.',
    )
  // Weights come last: where they are, the rest is.
  return { commit, files: [...small, ...weights] }
}

/** The forms of weights, best first: one file, shards (with the index, where it is no small file of its own). */
const weightNames = [
  /^model\.safetensors$/,
  /^model-\d+-of-\d+\.safetensors$/,
  /^pytorch_model\.bin$/,
  /^pytorch_model(-\d+-of-\d+\.bin|\.bin\.index\.json)$/,
]

const isSmallFile = (path: string): boolean =>
  (/\.(json|jinja)$/.test(path) && !path.endsWith('.bin.index.json')) ||
  ['tokenizer.model', 'merges.txt', 'vocab.txt'].includes(path)

const refusalOf = ({ statusCode }: HubApiError, { id, revision }: Wanted): LoraTrainError => {
  const at = revision === 'main' ? '' : ` at revision ${revision}`
  if (statusCode === 404)
    return new LoraTrainError(
      'MODEL_FILES',
      `${id} is no path here, and the hub has no such model${at}`,
      'Check the spelling; a private model needs HF_TOKEN.',
    )
  if (statusCode === 401 || statusCode === 403)
    return new LoraTrainError(
      'MODEL_FILES',
      `${id} is no path here, and the hub gives no access to it${at} (status ${statusCode})`,
      'Check the spelling; for a private or gated model accept its terms and set HF_TOKEN to a token that may read it.',
    )
  return new LoraTrainError(
    'MODEL_FILES',
    `the hub answered with status ${statusCode} when asked for ${id}${at}`,
    'Try again later.',
  )
}

const unreachable = (error: unknown): LoraTrainError =>
  new LoraTrainError(
    'MODEL_FILES',
    `the hub can't be reached: ${reasonOf(error)}`,
    'Check the network and HF_ENDPOINT; with HF_HUB_OFFLINE=1 only the cache is read.',
  )

/** fetch says only that it failed; why stands in the cause. */
const reasonOf = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? error.cause.message || error.message : error.message
}
