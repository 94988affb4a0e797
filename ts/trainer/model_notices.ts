// What a model that was loaded tells: what its files hold that people may not expect, and where quantised weights
// came from. Words only; asks the engine nothing.

import { match } from 'ts-pattern'
import { type Config, formatBytes } from '../config/index.js'
import type { SessionInfo } from '../native/contract.js'

/** What the rows need of the model. */
interface Data {
  lengthMax: number
  vocabulary: { vocabRows?: number | null } | null
}

/** Where the files hold weights in 4 bits, they decide; what the options say otherwise is named. */
const stored4bitNotices = ({ stored4bit }: SessionInfo, { quantization }: Config): string[] => {
  if (stored4bit === null) return []
  const { tensors, quantType, doubleQuant } = stored4bit
  const kept = `the model's files hold ${tensors} weights in 4 bits (${quantType.toUpperCase()}, double quantisation ${doubleQuant ? 'on' : 'off'}), which stay so`
  if (quantization?.load_in_4bit !== true) return [kept]
  const {
    bnb_4bit_quant_type: type,
    bnb_4bit_use_double_quant: asked,
    llm_int8_skip_modules: skipped,
  } = quantization
  const differ = [
    ...(type === quantType ? [] : [`bnb_4bit_quant_type ${type}`]),
    ...(asked === doubleQuant ? [] : [`bnb_4bit_use_double_quant ${asked}`]),
    ...(skipped === null ? [] : ['llm_int8_skip_modules']),
  ]
  return differ.length === 0 ? [] : [`${kept}: ${differ.join(' and ')} has no effect`]
}

/** Where the weights in 4 bits came from, or are kept for the next start. */
const cacheNotices = ({ quantizedCache }: SessionInfo): string[] => {
  if (quantizedCache === null) return []
  const { path, bytes, outcome, reason, removed, removedBytes } = quantizedCache
  const old = removed === 1 ? '1 old entry' : `${removed} old entries`
  const weights = `the weights in 4 bits (${formatBytes(bytes)})`
  return [
    match(outcome)
      .with('read', () => `${weights} come from ${path}`)
      .with('written', () => `${weights} are kept for the next start in ${path} (quantized_cache_dir)`)
      .with('failed', () => `${weights} could not be kept for the next start: ${reason}`)
      .exhaustive(),
    ...(removed === 0 ? [] : [`${old} (${formatBytes(removedBytes)}) made room there`]),
    ...(outcome === 'written' && reason !== null ? [`an old entry could not be removed: ${reason}`] : []),
  ]
}

const namedTensors = 5

/** What the model's files say that people may not expect. */
export const modelNotices = (
  model: SessionInfo,
  { lengthMax, vocabulary }: Data,
  config: Config,
): string[] => {
  const { unusedTensors: unused, maxPositions, vocabSize, storedVocabSize } = model
  const shown = unused.slice(0, namedTensors).join(', ') + (unused.length > namedTensors ? ', …' : '')
  const tensors = unused.length === 1 ? '1 tensor' : `${unused.length} tensors`
  const grew = `the vocabulary grows from ${storedVocabSize} rows to ${vocabSize}; the new ones are the mean of the old`
  const hasRoom = `the new token takes a free row: the model has ${vocabSize}`
  return [
    ...stored4bitNotices(model, config),
    ...cacheNotices(model),
    ...(typeof vocabulary?.vocabRows !== 'number' ? [] : [vocabSize > storedVocabSize ? grew : hasRoom]),
    ...(unused.length === 0
      ? []
      : [`the model's files hold ${tensors} that its architecture has no place for: ${shown}`]),
    ...(lengthMax <= maxPositions
      ? []
      : [
          `the longest row has ${lengthMax} tokens; the model was made for ${maxPositions} (model_max_length cuts rows)`,
        ]),
  ]
}
