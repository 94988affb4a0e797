// The schema: the one home of every option's name, type, range, default, help and source.
// Flags, help, docs/config.md and types are derived from it; nothing here reads a file or a command line.

import { z } from 'zod'
import { dataOptions } from './options/data.js'
import { LoraConfig } from './options/lora.js'
import { modelOptions } from './options/model.js'
import { QuantizationConfig } from './options/quantization.js'
import { loggingOptions, savingOptions } from './options/reporting.js'
import { SpecialTokensConfig, TemplateConfig } from './options/template.js'
import { lengthOptions, memoryOptions, optimizerOptions, rateOptions } from './options/training.js'

/** The options of the top level. */
export const topLevel = {
  ...modelOptions,
  ...dataOptions,
  ...lengthOptions,
  ...rateOptions,
  ...optimizerOptions,
  ...memoryOptions,
  ...loggingOptions,
  ...savingOptions,
}

/** The sections: nested in a file, dotted on the command line. */
export const sections = {
  lora: LoraConfig,
  quantization: QuantizationConfig,
  template: TemplateConfig,
  special_tokens: SpecialTokensConfig,
}
export type SectionName = keyof typeof sections

/**
 * A whole, checked config. `lora: null` means that all parameters are trained.
 *
 * @example
 * ConfigSchema.parse({ model_name_or_path: 'm', lora: { r: 16 } }).lora?.lora_alpha // 8
 */
export const ConfigSchema = z.strictObject({
  ...topLevel,
  lora: LoraConfig.nullable().default(null).meta({
    description: 'Train a LoRA adapter instead of all parameters.',
    default_text: 'full fine-tuning',
  }),
  quantization: QuantizationConfig.nullable()
    .default(null)
    .meta({ description: 'Keep the frozen weights in fewer bits.', default_text: 'none' }),
  template: TemplateConfig.prefault({}).meta({ description: 'How a row becomes a prompt.' }),
  special_tokens: SpecialTokensConfig.prefault({}).meta({
    description:
      'Special tokens for the tokenizer. The model gets rows for new ones, the mean of its old rows, where it has none free.',
  }),
})

/** A checked config with every default filled in. */
export type Config = z.output<typeof ConfigSchema>
/** What the API takes: only what differs from the defaults. */
export type ConfigInput = z.input<typeof ConfigSchema>
/** A config that names what a training run cannot do without. */
export type TrainConfig = Config & { data_path: string; output_dir: string }
