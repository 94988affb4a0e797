// Reads a config file (YAML or JSON, which YAML contains) into entries that know their line.
// Knows no option: a nested mapping becomes dotted names where the top-level key is a section.

import { readFileSync, statSync } from 'node:fs'
import {
  type Document,
  isAlias,
  isMap,
  isNode,
  isScalar,
  LineCounter,
  type Node,
  type Pair,
  parseDocument,
  type YAMLMap,
} from 'yaml'
import { LoraTrainError } from '../native/errors.js'
import type { Entry, FileOrigin } from './origin.js'
import { sections } from './schema.js'
import { normalise } from './spelling.js'

/** A config is a page; what is larger is another kind of file. */
const largestBytes = 1 << 20

/**
 * Returns the entries of `file`, in its order.
 *
 * Throws `CONFIG` where it is missing, too large, not text, not YAML or JSON, empty, or not a mapping.
 */
export const readConfigFile = (file: string): Entry[] => {
  const lines = new LineCounter()
  const document = parseDocument(readText(file), { lineCounter: lines, prettyErrors: false })
  const [error] = document.errors
  if (error !== undefined) {
    const { line, col } = lines.linePos(error.pos[0])
    const language = /\.json$/i.test(file) ? 'JSON' : 'YAML'
    const what =
      error.code === 'DUPLICATE_KEY' ? 'a name stands twice' : `not ${language}: ${lowerFirst(error.message)}`
    throw wrong(`${file}:${line}:${col}: ${what}`, 'Correct the file at that place.')
  }
  const lineOf = (node: unknown): number => lines.linePos((node as Node | null)?.range?.[0] ?? 0).line
  return entriesOf(file, document, lineOf)
}

const readText = (file: string): string => {
  try {
    const stats = statSync(file)
    if (stats.isDirectory()) throw wrong(`config file ${file} is a folder`, 'Name a YAML or JSON file.')
    // A pipe or a device may have no end.
    if (!stats.isFile()) throw wrong(`config file ${file} is no regular file`, 'Name a YAML or JSON file.')
    if (stats.size > largestBytes) {
      throw wrong(
        `config file ${file} has ${stats.size} bytes; ${largestBytes} is the limit`,
        'Name a YAML or JSON file.',
      )
    }
    return new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(file))
  } catch (error) {
    if (error instanceof LoraTrainError) throw error
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      throw wrong(`config file ${file} does not exist`, 'Check the path; it counts from the current folder.')
    }
    if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA') {
      throw wrong(`config file ${file} is not UTF-8 text`, 'Name a YAML or JSON file.')
    }
    throw wrong(`config file ${file} cannot be read: ${code ?? error}`, 'Check its permissions.')
  }
}

const entriesOf = (file: string, document: Document, lineOf: (node: unknown) => number): Entry[] => {
  const entries: Entry[] = []
  const add = (name: string, { key, value }: Pair, known?: unknown): void => {
    const origin = { from: 'file' as const, file, line: lineOf(key), spelled: name }
    entries.push({ name, value: known ?? plainOf(value, document, origin), origin })
  }
  for (const pair of mappingOf(file, document).items) {
    const name = textOf(pair.key)
    const node = isAlias(pair.value) ? pair.value.resolve(document) : pair.value
    if (!Object.hasOwn(sections, normalise(name))) {
      add(name, pair)
    } else if (isMap(node)) {
      add(name, pair, true)
      for (const inner of node.items) add(`${name}.${textOf(inner.key)}`, inner)
    } else if (isScalar(node) && node.source === '') {
      throw wrong(
        `${name} (${file}:${lineOf(pair.key)}) is empty`,
        `Write ${name}: {} for the section with its defaults, or ${name}: false for none.`,
      )
    } else {
      add(name, pair)
    }
  }
  return entries
}

const mappingOf = (file: string, { contents }: Document): YAMLMap => {
  if (isMap(contents)) return contents
  if (contents === null || (isScalar(contents) && contents.value === null)) {
    throw wrong(`config file ${file} is empty`, 'Write options into it, such as model_name_or_path: ./model.')
  }
  const what = isScalar(contents) ? 'a single value' : 'a list'
  throw wrong(
    `config file ${file} holds ${what}, not options`,
    'Write lines such as model_name_or_path: ./model.',
  )
}

const textOf = (key: unknown): string => String(isScalar(key) ? key.value : key)

/** The plain value. An alias may lead nowhere, to itself, or to so many copies that the library gives up. */
const plainOf = (node: unknown, document: Document, { file, line, spelled }: FileOrigin): unknown => {
  try {
    const plain: unknown = isNode(node) ? node.toJS(document) : null
    // A value that holds itself has no text, and is refused by this.
    JSON.stringify(plain)
    return plain
  } catch (error) {
    const [why = ''] = error instanceof Error ? error.message.split('\n') : []
    throw wrong(
      `${file}:${line}: ${spelled} cannot be read: ${lowerFirst(why)}`,
      'Write the value out, without an alias.',
    )
  }
}

const lowerFirst = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1).replace(/\.$/, '')

const wrong = (message: string, hint: string): LoraTrainError => new LoraTrainError('CONFIG', message, hint)
