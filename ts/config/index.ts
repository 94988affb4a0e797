// The config: schema, reading, merging, help.

export { engineOptions, methodOf, planOptions, samplingOf } from './engine.js'
export { configHelp, ownHelp, reference } from './help.js'
export { formatBytes, parseBytes } from './memory.js'
export { checkOffered, forTraining, notices, refusals } from './notices.js'
export type { LoraConfig } from './options/lora.js'
export type { QuantizationConfig } from './options/quantization.js'
export { SamplingConfig } from './options/sampling.js'
export type { SpecialTokensConfig, TemplateConfig } from './options/template.js'
export { type Entry, type Origin, place } from './origin.js'
export { originLines } from './origin_lines.js'
export { missing, type Resolved, resolveOwn, resolveValues, resolveWords } from './resolve.js'
export type { Purpose } from './rules.js'
export {
  type Config,
  type ConfigInput,
  ConfigSchema,
  sections,
  type TrainConfig,
  topLevel,
} from './schema.js'
export { namedTokensOf } from './special_tokens.js'
