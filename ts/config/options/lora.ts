// The section `lora`, under the names of PEFT's LoraConfig. Where it stands, the adapter is trained and the model frozen.

import { z } from 'zod'
import { loraConfig as source } from '../meta.js'

const moduleName = z
  .string()
  .regex(/^[\w.-]+$/, 'a module name such as q_proj or layers.0.q_proj; regular expressions are not read')

export const LoraConfig = z.strictObject({
  r: z
    .int()
    .min(1)
    .max(4096)
    .default(8)
    .meta({
      description: 'Rank of the two adapter matrices. Memory grows with it, linearly.',
      source,
      aliases: ['lora_r'],
    }),
  lora_alpha: z.number().positive().max(1e6).default(8).meta({
    description: 'The adapter is scaled by lora_alpha / r.',
    source,
  }),
  lora_dropout: z.number().min(0).lt(1).default(0).meta({
    description: 'Share of adapter inputs set to zero while training.',
    source,
  }),
  target_modules: z
    .union([z.literal('all-linear'), z.array(moduleName).min(1)])
    .nullable()
    .default(null)
    .meta({
      description: 'Linear layers that get an adapter, by name or ending; all-linear: all but the head.',
      source,
      aliases: ['lora_target_modules'],
      default_text: "PEFT's choice for the architecture",
    }),
  bias: z
    .enum(['none', 'all', 'lora_only'])
    .default('none')
    .meta({
      description: 'Which biases are trained beside the adapter.',
      source,
      aliases: ['lora_bias_type'],
    }),
  modules_to_save: z
    .array(moduleName)
    .default([])
    .meta({
      description: 'Modules that are trained whole and saved with the adapter.',
      source,
      aliases: ['lora_modules_to_save'],
      default_text: 'none',
    }),
  save_embedding_layers: z
    .union([z.literal('auto'), z.boolean()])
    .default('auto')
    .meta({
      description:
        "Save embedding and head with the adapter. auto: where the vocabulary grew, since the adapter doesn't fit the base model without them.",
      source: 'peft.PeftModel.save_pretrained',
    }),
  use_rslora: z.boolean().default(false).meta({
    description: 'Scale the adapter by lora_alpha / √r.',
    source,
  }),
})
export type LoraConfig = z.output<typeof LoraConfig>
