// Reads a config file (YAML or JSON, which YAML contains) into entries that know their line.
// Knows no option: a nested mapping becomes dotted names where the top-level key is a section.

import { readFileSync, statSync } from 'node:fs'
import { type Document, isAlias, isMap, isScalar, LineCounter, type Node, parseDocument } from 'yaml'
import { LoraTrainError } from '../native/errors.js'
import type { Entry } from './origin.js'
import { sections } from './schema.js'

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
  const { contents } = document
  if (contents === null || (isScalar(contents) && contents.value === null)) {
    throw wrong(`config file ${file} is empty`, 'Write options into it, such as model_name_or_path: ./model.')
  }
  if (!isMap(contents)) {
    const what = isScalar(contents) ? 'a single value' : 'a list'
    throw wrong(
      `config file ${file} holds ${what}, not options`,
      'Write lines such as model_name_or_path: ./model.',
    )
  }
  const entries: Entry[] = []
  for (const { key, value } of contents.items) {
    const spelled = String(isScalar(key) ? key.value : key)
    const node = isAlias(value) ? value.resolve(document) : (value as Node | null)
    const origin = { from: 'file' as const, file, line: lineOf(key), spelled }
    const isSection = Object.hasOwn(sections, spelled.trim().replaceAll('-', '_'))
    if (isSection && (node === null || (isScalar(node) && node.source === ''))) {
      throw wrong(
        `${spelled} (${file}:${origin.line}) is empty`,
        `Write ${spelled}: {} for the section with its defaults, or ${spelled}: false for none.`,
      )
    }
    if (!isSection || !isMap(node)) {
      entries.push({ name: spelled, value: node?.toJS(document) ?? null, origin })
      continue
    }
    entries.push({ name: spelled, value: true, origin })
    for (const inner of node.items) {
      const name = `${spelled}.${isScalar(inner.key) ? inner.key.value : inner.key}`
      const innerValue = (inner.value as Node | null)?.toJS(document) ?? null
      entries.push({ name, value: innerValue, origin: { ...origin, line: lineOf(inner.key), spelled: name } })
    }
  }
  return entries
}

const lowerFirst = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1).replace(/\.$/, '')

const wrong = (message: string, hint: string): LoraTrainError => new LoraTrainError('CONFIG', message, hint)
