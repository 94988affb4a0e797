// Options that say which rows to read and how they become sequences.

import { z } from 'zod'
import { stanfordAlpaca, trainingArguments } from '../meta.js'

const group = 'Data'

export const dataOptions = {
  data_path: z
    .string()
    .min(1)
    .nullable()
    .default(null)
    .meta({
      description: 'Rows to train on: JSON or JSONL of objects with the fields that the template names.',
      group,
      source: stanfordAlpaca,
      aliases: ['train_file'],
      path: true,
    }),
  eval_data_path: z
    .string()
    .min(1)
    .nullable()
    .default(null)
    .meta({
      description: 'Rows to evaluate on, in the same form.',
      group,
      source: 'FastChat',
      aliases: ['validation_file'],
      path: true,
    }),
  model_max_length: z
    .int()
    .min(2)
    .max(1_048_576)
    .default(512)
    .meta({
      description:
        'Longest sequence in tokens, prompt and answer together. What is longer is cut, and counted.',
      group,
      source: stanfordAlpaca,
      aliases: ['block_size', 'max_seq_length', 'max_length'],
    }),
  packing: z.boolean().default(true).meta({
    description:
      'Compute sequences one after another without padding. False: padded batches; the loss is the same.',
    group,
    source: 'trl.SFTConfig',
  }),
  train_on_source: z
    .boolean()
    .default(false)
    .meta({
      description: 'Supervise the tokens of the prompt too, not only those of the answer.',
      group,
      source: 'qlora.py',
      aliases: ['train_on_inputs', 'train_on_prompt'],
    }),
  seed: z.int().min(0).max(4_294_967_295).default(42).meta({
    description: 'Seed of everything random: order of rows, adapter, dropout.',
    group,
    source: trainingArguments,
  }),
  data_seed: z.int().min(0).max(4_294_967_295).nullable().default(null).meta({
    description: 'Seed of the order of rows alone.',
    group,
    source: trainingArguments,
    default_text: 'seed',
  }),
}
