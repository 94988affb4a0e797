// Row + template → prompt and answer. `{field}` places as in a PROMPT_DICT of Python's str.format.
// The default template lives in the schema; values are put in as they are, whatever braces they hold.

import { LoraTrainError } from '../native/errors.js'
import { kindOf, type Row } from './read_rows.js'

/** The section `template` of the config. */
export interface PromptTemplate {
  /** For rows whose `input` is not empty. */
  prompt_input: string
  /** For rows without an `input`, or with an empty one. */
  prompt_no_input: string
}

/** Prompts and answers of all rows, in their order. */
export interface RowTexts {
  sources: string[]
  targets: string[]
}

/** The field of a row that holds the answer. */
const outputField = 'output'

/** A template cut at its places: text, field, text, field, …, text. */
type Pieces = readonly (string | { field: string })[]

/**
 * The text of every row.
 *
 * Throws `CONFIG` for a template with a brace that closes or opens nothing, and `DATA` for a row that lacks a field
 * that its template names, or holds something other than text there (with the row's number, from 1).
 */
export const renderRows = (path: string, rows: readonly Row[], template: PromptTemplate): RowTexts => {
  const withInput = parseTemplate('prompt_input', template.prompt_input)
  const withoutInput = parseTemplate('prompt_no_input', template.prompt_no_input)
  const sources: string[] = []
  const targets: string[] = []
  rows.forEach((row, index) => {
    const text = (field: string): string => textOf(path, row, index + 1, field)
    const pieces = hasInput(row) ? withInput : withoutInput
    sources.push(pieces.map((piece) => (typeof piece === 'string' ? piece : text(piece.field))).join(''))
    targets.push(text(outputField))
  })
  return { sources, targets }
}

const hasInput = (row: Row): boolean => {
  const input = Object.hasOwn(row, 'input') ? row.input : undefined
  return input !== undefined && input !== null && input !== ''
}

/** The text of one field; numbers are refused because JSON and Python spell them differently. */
const textOf = (path: string, row: Row, number: number, field: string): string => {
  if (!Object.hasOwn(row, field)) {
    const fields = Object.keys(row)
    throw new LoraTrainError(
      'DATA',
      `${path}: row ${number} has no field "${field}"`,
      fields.length === 0
        ? 'The row is empty.'
        : `It has ${fields.slice(0, 8).join(', ')}; name these in template.prompt_input and template.prompt_no_input, or add the field.`,
    )
  }
  const value = row[field]
  if (typeof value === 'string') return value
  throw new LoraTrainError(
    'DATA',
    `${path}: row ${number}: field "${field}" is ${kindOf(value)}, not text`,
    'Write the value in quotes.',
  )
}

/** `{{` and `}}` are braces, as in str.format. */
const parseTemplate = (option: keyof PromptTemplate, template: string): Pieces => {
  const pieces: (string | { field: string })[] = []
  const part = /\{\{|\}\}|\{([^{}]+)\}|[{}]|[^{}]+/g
  for (const [found, field] of template.matchAll(part)) {
    if (field !== undefined) pieces.push({ field })
    else if (found === '{{' || found === '}}') pieces.push(found.slice(1))
    else if (found === '{' || found === '}') {
      throw new LoraTrainError(
        'CONFIG',
        `template.${option} has a single "${found}"`,
        'Write {field} for a place, {{ and }} for braces.',
      )
    } else pieces.push(found)
  }
  return pieces
}
