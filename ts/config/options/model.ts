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
        'The model: a Hugging Face folder (config.json, safetensors or pytorch_model.bin, tokenizer.json or tokenizer.model), a .gguf file, or the id of a model on the hub (org/name).',
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
      description: 'Folder, .gguf file or hub id to take the tokenizer from.',
      group,
      source: 'transformers/examples',
      aliases: ['tokenizer_name_or_path'],
      default_text: 'model_name_or_path',
      path: true,
    }),
  model_revision: z.string().min(1).default('main').meta({
    description: 'Branch, tag or commit of a model that comes from the hub.',
    group,
    source: 'transformers/examples',
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
  quantized_cache_dir: z.string().min(1).default('auto').meta({
    description:
      "Folder that keeps the weights that load_in_4bit or load_in_8bit made, so that the next start maps them instead of quantising again; auto: `quantized` in the folder of LORA_TRAIN_CACHE, else in lora-train of the user's cache folder; none: nothing is kept. A new entry removes those that no start has used for 30 days, and all but the 8 used last; what lies there may be deleted at any time.",
    group,
    source: ours,
    path: true,
  }),
}
