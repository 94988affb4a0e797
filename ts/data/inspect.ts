// Rows as the model sees them: tokens as text, which of them are supervised, lengths. Counts and shows; refuses nothing.

import type { Native } from '../native/contract.js'
import { unwrap } from '../native/errors.js'
import { IGNORED, lengthOf, type ReadOptions } from './encode.js'
import { readRows } from './read_rows.js'
import { renderRows } from './template.js'
import { type NamedTokens, openNamedTokenizer } from './tokenizer.js'

/** Neighbouring tokens that are alike in being supervised or masked. */
export interface Segment {
  supervised: boolean
  tokens: string[]
}

/** One row. Its number is from 1, in the file's order. */
export interface SeenRow {
  row: number
  length: number
  supervisedTokens: number
  cut: boolean
  segments: Segment[]
}

/** A file of rows: the ones that were asked for, and numbers over all. */
export interface Inspection {
  path: string
  rows: number
  tokens: number
  supervisedTokens: number
  lengthMin: number
  lengthMedian: number
  lengthMean: number
  lengthMax: number
  cutRows: number[]
  unsupervisedRows: number[]
  shown: SeenRow[]
}

export interface InspectOptions extends ReadOptions {
  tokenizerPath: string
  tokens: NamedTokens
  /** Hears what became of the tokenizer's special tokens. */
  onNotice?: (message: string) => void
  /** The first row that is shown, from 1, and how many. */
  first: number
  count: number
}

/** Reads, renders and tokenises a file as training does. Throws `DATA`, `MODEL_FILES`. */
export const inspectWith = async (
  engine: Pick<Native, 'openTokenizer'>,
  asked: InspectOptions,
): Promise<Inspection> => {
  const { tokenizerPath, tokens, path, template, modelMaxLength, trainOnSource, first, count } = asked
  const { onNotice = () => undefined } = asked
  const { tokenizer, notices } = await openNamedTokenizer(engine, tokenizerPath, tokens)
  for (const message of notices) onNotice(message)
  const { sources, targets } = renderRows(path, await readRows(path), template)
  const options = { modelMaxLength, appendEos: true, maskSource: !trainOnSource }
  const encoded = unwrap(await tokenizer.encodeRows(sources, targets, options))
  const { ids, labels, offsets } = encoded
  const lengths = Float64Array.from(sources, (_, row) => lengthOf(encoded, row)).sort()
  const cutRows = Array.from(encoded.cut, (row) => row + 1)
  const shown: SeenRow[] = []
  for (let row = first - 1; row < Math.min(first - 1 + count, sources.length); row++) {
    const [start, end] = [offsets[row] ?? 0, offsets[row + 1] ?? 0]
    const { texts } = unwrap(await tokenizer.tokenTexts(ids.slice(start, end)))
    const rowLabels = labels.subarray(start, end)
    shown.push({
      row: row + 1,
      length: end - start,
      supervisedTokens: supervisedIn(rowLabels),
      cut: cutRows.includes(row + 1),
      segments: segmentsOf(texts, rowLabels),
    })
  }
  return {
    path,
    rows: sources.length,
    tokens: ids.length,
    supervisedTokens: supervisedIn(labels),
    lengthMin: lengths[0] ?? 0,
    lengthMedian: lengths[Math.floor(lengths.length / 2)] ?? 0,
    lengthMean: ids.length / Math.max(1, sources.length),
    lengthMax: lengths.at(-1) ?? 0,
    cutRows,
    unsupervisedRows: Array.from(encoded.unsupervised, (row) => row + 1),
    shown,
  }
}

const supervisedIn = (labels: Int32Array): number =>
  labels.reduce((count, label) => count + (label === IGNORED ? 0 : 1), 0)

const segmentsOf = (texts: readonly string[], labels: Int32Array): Segment[] => {
  const segments: Segment[] = []
  texts.forEach((text, at) => {
    const supervised = labels[at] !== IGNORED
    const last = segments.at(-1)
    if (last?.supervised === supervised) last.tokens.push(text)
    else segments.push({ supervised, tokens: [text] })
  })
  return segments
}
