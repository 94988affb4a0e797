// What a model that was loaded tells: what its files hold that people may not expect, and where quantised weights
// came from. Words only; asks the engine nothing.

import { match } from 'ts-pattern'
import { counted } from '../config/counted.js'
import { type Config, formatBytes } from '../config/index.js'
import type { SessionInfo } from '../native/contract.js'

/** What the rows need of the model. */
interface Data {
  lengthMax: number
  vocabulary: { vocabRows?: number | null } | null
}

/** Where the files hold quantised weights, they decide; what the options say otherwise is named. */
const storedNotices = ({ storedQuantized: stored }: SessionInfo, { quantization }: Config): string[] => {
  if (stored === null) return []
  const { tensors, code, doubleQuant } = stored
  const how =
    code === 'int8'
      ? '8 bits (int8)'
      : `4 bits (${code.toUpperCase()}, double quantisation ${doubleQuant ? 'on' : 'off'})`
  const kept = `the model's files hold ${tensors} weights in ${how}, which stay so`
  if (quantization === null || !(quantization.load_in_4bit || quantization.load_in_8bit)) return [kept]
  const differ = [
    ...otherThan(stored, quantization),
    ...(quantization.llm_int8_skip_modules === null ? [] : ['llm_int8_skip_modules']),
  ]
  return differ.length === 0 ? [] : [`${kept}: ${differ.join(' and ')} has no effect`]
}

/** What is asked for and is not what the files hold. */
const otherThan = (
  { code, doubleQuant }: NonNullable<SessionInfo['storedQuantized']>,
  asked: NonNullable<Config['quantization']>,
): string[] => {
  if (asked.load_in_8bit) return code === 'int8' ? [] : ['load_in_8bit']
  if (code === 'int8') return ['load_in_4bit']
  const { bnb_4bit_quant_type: type, bnb_4bit_use_double_quant: nested } = asked
  return [
    ...(type === code ? [] : [`bnb_4bit_quant_type ${type}`]),
    ...(nested === doubleQuant ? [] : [`bnb_4bit_use_double_quant ${nested}`]),
  ]
}

/** Where the quantised weights came from, or are kept for the next start. */
const cacheNotices = ({ quantizedCache }: SessionInfo, { quantization }: Config): string[] => {
  if (quantizedCache === null) return []
  const { path, bytes, outcome, reason, removed, removedBytes } = quantizedCache
  const old = counted(removed, 'old entry', 'old entries')
  const bits = quantization?.load_in_8bit === true ? 8 : 4
  const weights = `the weights in ${bits} bits (${formatBytes(bytes)})`
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
  const tensors = counted(unused.length, 'tensor')
  const grew = `the vocabulary grows from ${storedVocabSize} rows to ${vocabSize}; the new ones are the mean of the old`
  const hasRoom = `the new token takes a free row: the model has ${vocabSize}`
  return [
    ...storedNotices(model, config),
    ...cacheNotices(model, config),
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
