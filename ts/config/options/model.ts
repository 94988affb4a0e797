// Options that say which model and tokenizer to read.

import { z } from 'zod'
import { ours, stanfordAlpaca } from '../meta.js'

const group = 'Model'

export const modelOptions = {
  model_name_or_path: z
    .string()
    .min(1)
    .meta({
      description:
        'The model: a Hugging Face folder (config.json, safetensors, tokenizer.json) or a .gguf file.',
      group,
      source: stanfordAlpaca,
      aliases: ['model', 'base_model'],
      path: true,
    }),
  tokenizer_name: z
    .string()
    .min(1)
    .nullable()
    .default(null)
    .meta({
      description: 'Folder or .gguf file to take the tokenizer from.',
      group,
      source: 'transformers/examples',
      aliases: ['tokenizer_name_or_path'],
      default_text: 'model_name_or_path',
      path: true,
    }),
  threads: z
    .int()
    .min(1)
    .max(4096)
    .nullable()
    .default(null)
    .meta({
      description: 'Threads to compute with. The results are the same bits for any number.',
      group,
      source: ours,
      aliases: ['num_threads'],
      default_text: 'all',
    }),
}
