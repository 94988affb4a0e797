// What the schema says of an option beside its type: the words of help, its other names, where it comes from.
// Never holds an option itself.

import type { z } from 'zod'

/** Headings of `--help` and of docs/config.md, in their order. */
export const groups = [
  'Model',
  'Data',
  'Length and batches',
  'Learning rate',
  'Optimizer',
  'Precision and memory',
  'Logging and evaluation',
  'Saving',
] as const
export type Group = (typeof groups)[number]

declare module 'zod' {
  interface GlobalMeta {
    /** Heading under which help lists the option. Options of a section have none. */
    group?: Group
    /** Whose name this is: `transformers.TrainingArguments`, `peft.LoraConfig`, … */
    source?: string
    /** Other spellings that mean the same option; those of a section's options are flat. */
    aliases?: readonly string[]
    /** Said instead of the default where that is not a plain value. */
    default_text?: string
    /** Other spellings of the option's values. */
    value_aliases?: Readonly<Record<string, string>>
    /** A path: a leading ~/ is the home folder. */
    path?: true
    /** On the command line \n and \t stand for a line break and a tab, since a shell passes them on as typed. */
    escapes?: true
  }
}

/** Where a name comes from. */
export const trainingArguments = 'transformers.TrainingArguments'
export const stanfordAlpaca = 'stanford_alpaca/train.py'
export const loraConfig = 'peft.LoraConfig'
export const bitsAndBytesConfig = 'transformers.BitsAndBytesConfig'
export const ours = 'lora-train'

/** The entries of one object of the schema. */
export type Shape = Record<string, z.ZodType>
