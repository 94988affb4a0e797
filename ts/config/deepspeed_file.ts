// Reads a DeepSpeed JSON file into keys that know their line. Knows which keys there are, not what they do.

import { readFileSync, statSync } from 'node:fs'
import { isMap, isScalar, LineCounter, type Node, type Pair, parseDocument, type YAMLMap } from 'yaml'
import { findJsonFault, lineAndColumn } from '../data/json_position.js'
import { LoraTrainError } from '../native/errors.js'
import { deepspeedKeys, type Key, type Keys } from './deepspeed_keys.js'
import { nearest } from './nearest.js'
import { type DeepspeedOrigin, shown, told } from './origin.js'

/** A key with its value, as it stands in the file. */
export interface DeepspeedValue {
  /** Dotted: `optimizer.params.lr`. */
  path: string
  value: unknown
  origin: DeepspeedOrigin
}

/** What a file says: what is read by its path, and the paths of what changes nothing. */
export interface DeepspeedFile {
  file: string
  read: ReadonlyMap<string, DeepspeedValue>
  idle: readonly string[]
}

/** Such a file is a page. */
const largestBytes = 1 << 20

/** Throws `CONFIG` where the file is missing, too large, not JSON, or holds a key or a value that is not known. */
export const readDeepspeedFile = (file: string): DeepspeedFile => {
  const text = readText(file)
  const fault = findJsonFault(text)
  if (fault !== null) {
    const { line, column } = lineAndColumn(text, fault.offset)
    throw wrong(
      `${file}:${line}:${column}: not JSON: expected ${fault.expected}`,
      'Correct the file at that place.',
    )
  }
  const lines = new LineCounter()
  // JSON is YAML; its reader tells where each key stands.
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, stringKeys: true })
  const [error] = document.errors
  if (error !== undefined) {
    const { line, col } = lines.linePos(error.pos[0])
    const faults: Record<string, string> = {
      DUPLICATE_KEY: 'a key stands twice',
      RESOURCE_EXHAUSTION: 'nested too deep',
    }
    const what = faults[error.code] ?? `not read: ${error.message}`
    throw wrong(`${file}:${line}:${col}: ${what}`, 'Correct the file at that place.')
  }
  if (!isMap(document.contents))
    throw wrong(`DeepSpeed file ${file} holds no object`, 'Write {"zero_optimization": {…}, …}.')
  const originOf = ({ key }: Pair, spelled: string): DeepspeedOrigin => {
    const { line } = lines.linePos((key as Node | null)?.range?.[0] ?? 0)
    return { from: 'deepspeed', file, line, spelled }
  }
  const read = new Map<string, DeepspeedValue>()
  const idle: string[] = []
  const take = (map: YAMLMap, keys: Keys, above: string): void => {
    for (const pair of map.items) {
      const name = String(isScalar(pair.key) ? pair.key.value : pair.key)
      const path = above + name
      const found: Found = {
        path,
        node: pair.value,
        value: plainOf(pair.value),
        origin: originOf(pair, path),
      }
      const key = Object.hasOwn(keys, name) ? keys[name] : undefined
      if (key === undefined) throw unknownKey(found, name, keys, above)
      if (key.is === 'section') {
        if (found.value === null) continue
        if (!isMap(found.node)) throw refused(found, 'it takes an object', 'Write {…}, or leave it out.')
        take(found.node, key.keys, `${path}.`)
      } else {
        check(found, key)
        if (key.is === 'read') read.set(path, found)
        else idle.push(path)
      }
    }
  }
  take(document.contents, deepspeedKeys, '')
  return { file, read, idle }
}

interface Found extends DeepspeedValue {
  node: unknown
}

const plainOf = (node: unknown): unknown =>
  node === null || node === undefined ? null : (node as { toJSON(): unknown }).toJSON()

/** "auto" where nothing takes its place, and what would change the result. */
const check = (found: Found, key: Exclude<Key, { is: 'section' }>): void => {
  if (key.is === 'neutral') {
    if (key.values.some((value) => value === found.value)) return
    throw refused(found, 'which is not offered', 'Leave it out.')
  }
  if (found.value === 'auto' && !key.auto)
    throw refused(found, 'which nothing resolves', 'Write the value out, or leave the key out.')
}

/** The error of a value that cannot be used. */
export const refused = ({ path, value, origin }: DeepspeedValue, why: string, hint: string): LoraTrainError =>
  wrong(`${told(path, origin)} is ${shown(value)}, ${why}`, hint)

const unknownKey = ({ path, origin }: Found, name: string, keys: Keys, above: string): LoraTrainError => {
  const names = Object.keys(keys)
  const known = nearest(name, names, names)
  return wrong(
    `unknown DeepSpeed key ${told(path, origin)}`,
    known === undefined
      ? `Leave it out; known here are ${names.join(', ')}.`
      : `Did you mean ${above}${known}?`,
  )
}

const readText = (file: string): string => {
  try {
    const stats = statSync(file)
    if (stats.isDirectory()) throw wrong(`DeepSpeed file ${file} is a folder`, 'Name a JSON file.')
    // A pipe or a device may have no end.
    if (!stats.isFile()) throw wrong(`DeepSpeed file ${file} is no regular file`, 'Name a JSON file.')
    if (stats.size > largestBytes)
      throw wrong(
        `DeepSpeed file ${file} has ${stats.size} bytes; ${largestBytes} is the limit`,
        'Name a JSON file.',
      )
    return new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(file))
  } catch (error) {
    if (error instanceof LoraTrainError) throw error
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR')
      throw wrong(
        `DeepSpeed file ${file} does not exist`,
        'Check the path; it counts from the current folder.',
      )
    const why = code === 'ERR_ENCODING_INVALID_ENCODED_DATA' ? 'is not UTF-8 text' : `cannot be read: ${code}`
    throw wrong(`DeepSpeed file ${file} ${why}`, 'Name a JSON file.')
  }
}

const wrong = (message: string, hint: string): LoraTrainError => new LoraTrainError('CONFIG', message, hint)
