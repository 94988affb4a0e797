// Options that say what is logged, evaluated and saved, when and where.

import { z } from 'zod'
import { ours, trainingArguments as source } from '../meta.js'

const logging = { group: 'Logging and evaluation', source } as const
const saving = { group: 'Saving', source } as const
const strategies = ['no', 'steps', 'epoch'] as const
/** A count of steps; below 1, a share of all steps. */
const interval = z.number().positive().max(1_000_000_000)

export const loggingOptions = {
  logging_strategy: z
    .enum(strategies)
    .default('steps')
    .meta({
      description: 'When to print a log line.',
      ...logging,
    }),
  logging_steps: interval.default(500).meta({
    description: 'Steps between log lines; below 1, a share of all steps.',
    ...logging,
  }),
  logging_first_step: z
    .boolean()
    .default(false)
    .meta({
      description: 'Print a log line after the first step too.',
      ...logging,
    }),
  eval_strategy: z
    .enum(strategies)
    .default('no')
    .meta({
      description: 'When to evaluate on eval_data_path.',
      ...logging,
      aliases: ['evaluation_strategy'],
    }),
  eval_steps: interval
    .nullable()
    .default(null)
    .meta({
      description: 'Steps between evaluations; below 1, a share of all steps.',
      ...logging,
      default_text: 'logging_steps',
    }),
  eval_on_start: z
    .boolean()
    .default(false)
    .meta({
      description: 'Evaluate before the first step too.',
      ...logging,
    }),
  report_to: z
    .array(z.enum(['none', 'all', 'tensorboard']))
    .default(['none'])
    .meta({
      description: 'Where to report beside the terminal and report.html; all: to TensorBoard.',
      ...logging,
    }),
  logging_dir: z
    .string()
    .min(1)
    .nullable()
    .default(null)
    .meta({
      description: "Folder for TensorBoard's event files.",
      ...logging,
      default_text: '$TENSORBOARD_LOGGING_DIR, else output_dir/runs/TIME_HOST',
      path: true,
    }),
  disable_tqdm: z
    .boolean()
    .default(false)
    .meta({
      description: 'Show no progress bar.',
      ...logging,
    }),
}

export const savingOptions = {
  output_dir: z
    .string()
    .min(1)
    .nullable()
    .default(null)
    .meta({
      description: 'Folder for the results. It is made where it is missing.',
      ...saving,
      path: true,
    }),
  overwrite_output_dir: z
    .boolean()
    .default(false)
    .meta({
      description:
        'Write also into a folder that holds a finished run or other files: an earlier result is replaced, other files stay.',
      ...saving,
    }),
  adapter_output_dir: z
    .string()
    .min(1)
    .nullable()
    .default(null)
    .meta({
      description: 'Folder for the adapter and the tokenizer.',
      ...saving,
      source: ours,
      default_text: 'output_dir',
      path: true,
    }),
  save_strategy: z
    .enum(strategies)
    .default('steps')
    .meta({
      description:
        'When to write a checkpoint: never, each save_steps steps and at the end, or after each epoch.',
      ...saving,
    }),
  save_steps: interval.default(500).meta({
    description: 'Steps between checkpoints; below 1, a share of all steps.',
    ...saving,
  }),
  save_total_limit: z
    .int()
    .min(1)
    .max(1_000_000)
    .nullable()
    .default(null)
    .meta({
      description: 'Checkpoints to keep; an older one is removed when the new one is whole.',
      ...saving,
      default_text: 'all',
    }),
  resume_from_checkpoint: z
    .union([z.boolean(), z.string().min(1)])
    .nullable()
    .default(null)
    .meta({
      description: 'Checkpoint folder to go on from; true: the newest whole one in output_dir.',
      ...saving,
      default_text: 'none',
    }),
  deepspeed: z.string().min(1).nullable().default(null).meta({
    description: 'DeepSpeed JSON file, read for offload, precision, accumulation and clipping.',
    group: 'Precision and memory',
    source,
    default_text: 'none',
    path: true,
  }),
}
