// The config: schema, reading, merging, help.

export { engineOptions, methodOf } from './engine.js'
export { formatBytes, parseBytes } from './memory.js'
export type { LoraConfig } from './options/lora.js'
export type { QuantizationConfig } from './options/quantization.js'
export type { SpecialTokensConfig, TemplateConfig } from './options/template.js'
export {
  type Config,
  type ConfigInput,
  ConfigSchema,
  sections,
  type TrainConfig,
  topLevel,
} from './schema.js'
