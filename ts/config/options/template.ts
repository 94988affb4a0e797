// The sections `template` (how a row becomes a prompt) and `special_tokens`.

import { z } from 'zod'
import { stanfordAlpaca } from '../meta.js'

const PROMPT_INPUT =
  'Below is an instruction that describes a task, paired with an input that provides further context. ' +
  'Write a response that appropriately completes the request.\n\n' +
  '### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:'
const PROMPT_NO_INPUT =
  'Below is an instruction that describes a task. ' +
  'Write a response that appropriately completes the request.\n\n' +
  '### Instruction:\n{instruction}\n\n### Response:'

export const TemplateConfig = z.strictObject({
  prompt_input: z.string().min(1).default(PROMPT_INPUT).meta({
    description: 'Prompt of a row whose input is not empty; {field} stands for the value of that field.',
    source: stanfordAlpaca,
    escapes: true,
  }),
  prompt_no_input: z.string().min(1).default(PROMPT_NO_INPUT).meta({
    description: 'Prompt of a row without an input.',
    source: stanfordAlpaca,
    escapes: true,
  }),
})
export type TemplateConfig = z.output<typeof TemplateConfig>

const token = z.string().min(1).nullable().default(null)
const told = { source: stanfordAlpaca, default_text: "the tokenizer's" }
const ofLlama = 'Set only where model_name_or_path has "llama" in it.'

export const SpecialTokensConfig = z.strictObject({
  pad_token: token.meta({
    description: 'Padding token, where the tokenizer has none. An unknown text is added to the vocabulary.',
    ...told,
  }),
  eos_token: token.meta({ description: `End of a sequence. ${ofLlama}`, ...told }),
  bos_token: token.meta({ description: `Begin of a sequence. ${ofLlama}`, ...told }),
  unk_token: token.meta({ description: `What stands for an unknown token. ${ofLlama}`, ...told }),
})
export type SpecialTokensConfig = z.output<typeof SpecialTokensConfig>
