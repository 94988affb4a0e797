// Texts → token ids and labels, and what there is to say about them. Tokenising itself is the engine's.
// Row numbers in messages and statistics are from 1, in the file's order.

import type { EncodedRows, Tokenizer } from '../native/contract.js'
import { LoraTrainError, unwrap } from '../native/errors.js'
import { readRows } from './read_rows.js'
import { type PromptTemplate, type RowTexts, renderRows } from './template.js'

/** The label of a position that is not supervised. */
export const IGNORED = -100

/** Rows to train on or to evaluate. `usable` numbers, from 0, those that have a supervised token. */
export interface TokenRows extends Pick<EncodedRows, 'ids' | 'labels' | 'offsets'> {
  usable: Uint32Array
}

/** What there is to say about the rows of a file. Row numbers are from 1. */
export interface RowStatistics {
  /** Rows in the file, and those that are left to train on. */
  rows: number
  usedRows: number
  tokens: number
  supervisedTokens: number
  lengthMin: number
  lengthMean: number
  lengthMax: number
  /** Rows whose answer was cut by `model_max_length`. */
  cutRows: number[]
  /** Rows left out because no token of theirs is supervised. */
  unsupervisedRows: number[]
}

export interface ReadOptions {
  path: string
  template: PromptTemplate
  modelMaxLength: number
  trainOnSource: boolean
}

/**
 * Reads and renders the rows of a file: what of `readTokenRows` asks for no tokenizer.
 *
 * Throws `DATA` for what `readRows` and `renderRows` refuse.
 */
export const readTexts = async ({
  path,
  template,
}: Pick<ReadOptions, 'path' | 'template'>): Promise<RowTexts> =>
  renderRows(path, await readRows(path), template)

/**
 * Reads, renders and tokenises the rows of a file: source and target together, the end token appended. `texts` are
 * those of `readTexts`, where they are there already.
 *
 * Throws `DATA` for what `readTexts` and `usableRows` refuse, and what the tokenizer reports.
 */
export const readTokenRows = async (
  tokenizer: Pick<Tokenizer, 'encodeRows'>,
  { path, template, modelMaxLength, trainOnSource }: ReadOptions,
  texts: Promise<RowTexts> = readTexts({ path, template }),
): Promise<{ rows: TokenRows; statistics: RowStatistics }> => {
  const { sources, targets } = await texts
  const encoded = unwrap(
    await tokenizer.encodeRows(sources, targets, {
      modelMaxLength,
      appendEos: true,
      maskSource: !trainOnSource,
    }),
  )
  return usableRows(path, encoded)
}

/**
 * Leaves out the rows without a supervised token and counts the rest.
 *
 * Throws `DATA` where they are more than 1 % of the rows. One such row alone is no fault of a file,
 * however short, as long as another row is left.
 */
export const usableRows = (
  path: string,
  encoded: Pick<EncodedRows, 'ids' | 'labels' | 'offsets' | 'cut'>,
): { rows: TokenRows; statistics: RowStatistics } => {
  const count = encoded.offsets.length - 1
  const usable: number[] = []
  const unsupervisedRows: number[] = []
  let supervisedTokens = 0
  let tokens = 0
  let lengthMin = Number.POSITIVE_INFINITY
  let lengthMax = 0
  for (let row = 0; row < count; row++) {
    const supervised = supervisedIn(encoded, row)
    if (supervised === 0) {
      unsupervisedRows.push(row + 1)
      continue
    }
    const length = lengthOf(encoded, row)
    usable.push(row)
    supervisedTokens += supervised
    tokens += length
    lengthMin = Math.min(lengthMin, length)
    lengthMax = Math.max(lengthMax, length)
  }
  refuseUnsupervised(path, unsupervisedRows, count)
  return {
    rows: { ...encoded, usable: Uint32Array.from(usable) },
    statistics: {
      rows: count,
      usedRows: usable.length,
      tokens,
      supervisedTokens,
      lengthMin,
      lengthMean: tokens / usable.length,
      lengthMax,
      cutRows: Array.from(encoded.cut, (row) => row + 1),
      unsupervisedRows,
    },
  }
}

/** Throws `DATA` where a row has a token that a vocabulary of `vocabSize` does not have. */
export const refuseUnknownTokens = (
  path: string,
  { ids, offsets, usable }: TokenRows,
  vocabSize: number,
): void => {
  for (const row of usable) {
    const end = offsets[row + 1] ?? 0
    let at = offsets[row] ?? 0
    while (at < end && (ids[at] ?? 0) < vocabSize) at += 1
    if (at === end) continue
    throw new LoraTrainError(
      'DATA',
      `${path}: row ${row + 1} has the token ${ids[at]}; the model's vocabulary has ${vocabSize} tokens, from 0`,
      'Use the tokenizer that belongs to the model.',
    )
  }
}

/** Tokens of a row. */
export const lengthOf = ({ offsets }: Pick<EncodedRows, 'offsets'>, row: number): number =>
  (offsets[row + 1] ?? 0) - (offsets[row] ?? 0)

/** Supervised tokens of a row: the first position predicts nothing that comes before it, so its label never counts. */
const supervisedIn = ({ labels, offsets }: Pick<EncodedRows, 'labels' | 'offsets'>, row: number): number => {
  let count = 0
  const end = offsets[row + 1] ?? 0
  for (let at = (offsets[row] ?? 0) + 1; at < end; at++) if (labels[at] !== IGNORED) count += 1
  return count
}

const refuseUnsupervised = (path: string, unsupervised: number[], rows: number): void => {
  const mayBeLeftOut = Math.max(1, rows / 100)
  if (unsupervised.length <= mayBeLeftOut && unsupervised.length < rows) return
  const shown = unsupervised.slice(0, 10).join(', ')
  const more = unsupervised.length > 10 ? ', …' : ''
  throw new LoraTrainError(
    'DATA',
    `${path}: ${unsupervised.length} of ${rows} rows have no supervised token (rows ${shown}${more}); up to 1 % may`,
    'Raise model_max_length, so that the prompt leaves room for the answer, or drop these rows.',
  )
}
