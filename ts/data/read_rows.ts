// A file of rows → rows. Reads JSON (an array of objects) and JSON Lines (an object a line), whole or not at all.
// Knows no template and no tokenizer; never guesses what a broken file meant.

import { isUtf8 } from 'node:buffer'
import { readFile, stat } from 'node:fs/promises'
import { extname } from 'node:path'
import { LoraTrainError } from '../native/errors.js'
import { findJsonFault, lineAndColumn } from './json_position.js'

/** One row, with whatever fields it has. */
export type Row = Readonly<Record<string, unknown>>

const lineFormats = ['.jsonl', '.ndjson']
const newline = 0x0a

/**
 * The rows of `path`, in its order.
 *
 * Throws `DATA` for a file that can't be read, is not UTF-8, is not JSON (with line and column), holds something
 * that is not an object where a row should be (with its number, from 1), or holds no row.
 */
export const readRows = async (path: string): Promise<Row[]> => {
  const bytes = withoutByteOrderMark(await readBytes(path))
  refuseOtherEncodings(path, bytes)
  const values = lineFormats.includes(extname(path).toLowerCase())
    ? parseLines(path, bytes)
    : parseJson(path, bytes)
  if (values.length === 0) {
    throw new LoraTrainError('DATA', `${path} holds no row`, 'Give a file with at least one row.')
  }
  values.forEach((value, index) => {
    if (isRow(value)) return
    throw new LoraTrainError(
      'DATA',
      `${path}: row ${index + 1} is ${kindOf(value)}, not an object`,
      'Write each row as {"instruction": …, "input": …, "output": …}.',
    )
  })
  return values as Row[]
}

const isRow = (value: unknown): value is Row =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** What a JSON value is, with its article. */
export const kindOf = (value: unknown): string => {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'an array'
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}

const readBytes = async (path: string): Promise<Buffer> => {
  try {
    const stats = await stat(path)
    // A pipe or a device may have no end.
    if (!stats.isFile() && !stats.isDirectory()) {
      throw new LoraTrainError(
        'DATA',
        `${path} is no regular file`,
        'Write the rows to a file and name that.',
      )
    }
    return await readFile(path)
  } catch (error) {
    if (error instanceof LoraTrainError) throw error
    const code = (error as NodeJS.ErrnoException).code
    const [message, hint] =
      code === 'ENOENT' || code === 'ENOTDIR'
        ? [`there is no file ${path}`, 'Check data_path and eval_data_path.']
        : code === 'EISDIR'
          ? [`${path} is a folder, not a file of rows`, 'Name the JSON or JSONL file inside it.']
          : code === 'ERR_FS_FILE_TOO_LARGE'
            ? [`${path} is over 2 GiB`, 'Split the file.']
            : [`${path} can't be read (${code ?? String(error)})`, 'Check its permissions.']
    throw new LoraTrainError('DATA', message, hint)
  }
}

const withoutByteOrderMark = (bytes: Buffer): Buffer =>
  bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? bytes.subarray(3) : bytes

/** A broken character would become U+FFFD without a word, so it is refused, by its line. */
const refuseOtherEncodings = (path: string, bytes: Buffer): void => {
  if (isUtf8(bytes)) return
  let line = 0
  for (const [start, end] of lineRanges(bytes)) {
    line += 1
    if (!isUtf8(bytes.subarray(start, end))) break
  }
  throw new LoraTrainError('DATA', `${path}: line ${line} is not UTF-8`, 'Save the file as UTF-8.')
}

/** Start and end of each line, without its newline. No character of UTF-8 holds a newline's byte. */
function* lineRanges(bytes: Buffer): Generator<[start: number, end: number]> {
  for (let start = 0; start < bytes.length; ) {
    const found = bytes.indexOf(newline, start)
    const end = found === -1 ? bytes.length : found
    yield [start, end]
    start = end + 1
  }
}

/** Line by line from the bytes: the file may be longer than a string can be. */
const parseLines = (path: string, bytes: Buffer): unknown[] => {
  const values: unknown[] = []
  let line = 0
  for (const [start, end] of lineRanges(bytes)) {
    line += 1
    const text = textOf(path, bytes.subarray(start, end))
    if (text.trim() !== '') values.push(parse(path, text, line))
  }
  return values
}

const parseJson = (path: string, bytes: Buffer): unknown[] => {
  const text = textOf(path, bytes)
  if (text.trim() === '') return []
  // Many a file of JSON Lines is called .json: its first line is an object and there are more lines.
  const [first, ...others] = text.trimStart().split('\n', 2)
  if (first?.startsWith('{') && others.length > 0 && findJsonFault(first) === null) {
    return parseLines(path, bytes)
  }
  const value = parse(path, text, 1)
  if (Array.isArray(value)) return value
  throw new LoraTrainError(
    'DATA',
    `${path} holds ${kindOf(value)}, not an array of rows`,
    'Put the rows into one JSON array, or one object on each line of a .jsonl file.',
  )
}

const textOf = (path: string, bytes: Buffer): string => {
  try {
    return bytes.toString('utf8')
  } catch {
    // The limit of V8's strings, half a GiB.
    throw new LoraTrainError(
      'DATA',
      `${path} is too long to be read as one JSON text`,
      'Write one object on each line of a .jsonl file.',
    )
  }
}

/** The value of `text`, whose first line is line `firstLine` of the file. */
const parse = (path: string, text: string, firstLine: number): unknown => {
  try {
    return JSON.parse(text)
  } catch (error) {
    const fault = findJsonFault(text)
    if (fault === null) throw error
    const { line, column } = lineAndColumn(text, fault.offset)
    const found = text.codePointAt(fault.offset)
    const instead = found === undefined ? 'the end' : JSON.stringify(String.fromCodePoint(found))
    throw new LoraTrainError(
      'DATA',
      `${path} is not JSON: line ${firstLine + line - 1}, column ${column}: expected ${fault.expected}, found ${instead}`,
      'Mend the file there; JSON has no comments and no comma after the last item.',
    )
  }
}
