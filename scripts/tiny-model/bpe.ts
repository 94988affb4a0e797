// A byte-level BPE tokenizer, trained and written as a Hugging Face `tokenizer.json`. Deterministic, no dependencies.
//
// Text is cut by GPT-2's pattern, bytes are written as GPT-2's printable characters, and the most frequent pair is
// merged until the vocabulary is full; equal counts go to the pair that is smaller as text (Sennrich et al., 2016).
// Trains only: encoding is the engine's work.

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Ids 0, 1, 2: begin, end, padding. */
const SPECIAL_TOKENS = ['<s>', '</s>', '<pad>'] as const
const [BOS, EOS, PAD] = SPECIAL_TOKENS

// GPT-2's pre-tokenisation, as the tokenizers library's ByteLevel has it.
const PIECES = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu

export interface Bpe {
  /** Token text (in byte characters) by id, special tokens first. */
  vocabulary: string[]
  merges: [string, string][]
}

/** GPT-2's table: printable bytes stand for themselves, the others for characters from 256 on. */
function byteCharacters(): string[] {
  const printable = (b: number): boolean =>
    (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255)
  let next = 256
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(printable(b) ? b : next++))
}

interface Word {
  symbols: string[]
  count: number
}

/** The distinct pieces of the texts as symbols of one byte each, with how often each occurs. */
function countWords(texts: Iterable<string>): Word[] {
  const counts = new Map<string, number>()
  for (const text of texts)
    for (const [piece] of text.matchAll(PIECES)) counts.set(piece, (counts.get(piece) ?? 0) + 1)
  const characters = byteCharacters()
  return [...counts].map(([piece, count]) => ({
    symbols: [...Buffer.from(piece, 'utf8')].map((byte) => characters[byte] ?? ''),
    count,
  }))
}

// No symbol holds a space (byte 32 is written as another character), so a space parts the two of a pair.
const pairKey = (left: string, right: string): string => `${left} ${right}`

function mostFrequentPair(words: Word[]): [string, string] | null {
  const counts = new Map<string, number>()
  for (const { symbols, count } of words) {
    for (let i = 1; i < symbols.length; i++) {
      const key = pairKey(symbols[i - 1] ?? '', symbols[i] ?? '')
      counts.set(key, (counts.get(key) ?? 0) + count)
    }
  }
  let [best, most] = ['', 1]
  for (const [key, count] of counts)
    if (count > most || (count === most && key < best)) [best, most] = [key, count]
  const [left, right] = best.split(' ')
  return left && right ? [left, right] : null
}

function merge(symbols: string[], left: string, right: string): string[] {
  const merged: string[] = []
  for (const symbol of symbols) {
    if (symbol === right && merged.at(-1) === left) merged[merged.length - 1] = left + right
    else merged.push(symbol)
  }
  return merged
}

/** Trains until `size` tokens are there or no pair occurs twice. */
export function trainBpe(texts: Iterable<string>, size: number): Bpe {
  const words = countWords(texts)
  const vocabulary = [...SPECIAL_TOKENS, ...byteCharacters()] as string[]
  const merges: [string, string][] = []
  while (vocabulary.length < size) {
    const pair = mostFrequentPair(words)
    if (pair === null) break
    merges.push(pair)
    vocabulary.push(pair.join(''))
    for (const word of words) word.symbols = merge(word.symbols, ...pair)
  }
  return { vocabulary, merges }
}

function tokenizerJson({ vocabulary, merges }: Bpe): object {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: true }
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: SPECIAL_TOKENS.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: BOS, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [
        { SpecialToken: { id: BOS, type_id: 0 } },
        { Sequence: { id: 'A', type_id: 0 } },
        { Sequence: { id: 'B', type_id: 1 } },
      ],
      special_tokens: { [BOS]: { id: BOS, ids: [0], tokens: [BOS] } },
    },
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(vocabulary.map((token, id) => [token, id])),
      merges,
    },
  }
}

/** Writes tokenizer.json and tokenizer_config.json into `folder`. */
export function writeTokenizer(folder: string, bpe: Bpe, modelMaxLength: number): void {
  mkdirSync(folder, { recursive: true })
  const config = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    bos_token: BOS,
    eos_token: EOS,
    pad_token: PAD,
    model_max_length: modelMaxLength,
    clean_up_tokenization_spaces: false,
  }
  writeFileSync(join(folder, 'tokenizer.json'), `${JSON.stringify(tokenizerJson(bpe))}\n`)
  writeFileSync(join(folder, 'tokenizer_config.json'), `${JSON.stringify(config, null, 2)}\n`)
}
