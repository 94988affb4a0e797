// `lora-train generate`: one answer of a model, with or without an adapter.

import { z } from 'zod'
import { checkOffered, notices } from '../../config/index.js'
import { ours } from '../../config/meta.js'
import { LoraTrainError } from '../../native/errors.js'
import { generate as ask, type Question } from '../../trainer/generate.js'
import { configCommand, print } from '../command.js'
import { json } from '../options.js'

const source = 'transformers.GenerationConfig'
const text = z.string().optional()
const default_text = 'none'

const options = z.strictObject({
  prompt: text.meta({
    default_text,
    description: 'The text that the model continues, as it is.',
    source: ours,
    escapes: true,
  }),
  instruction: text.meta({
    default_text,
    description: 'In place of a prompt: the template makes one of it.',
    source: ours,
  }),
  input: text.meta({ default_text, description: 'The input that goes with the instruction.', source: ours }),
  chat: z.boolean().default(false).meta({
    description: "The prompt is a user's turn in the model's chat template.",
    source: ours,
  }),
  system: text.meta({ default_text, description: 'The system message of the chat.', source: ours }),
  adapter: text.meta({
    default_text,
    description: 'A PEFT folder, such as train writes.',
    source: ours,
    aliases: ['adapter_name_or_path', 'peft_model_id'],
    path: true,
  }),
  max_new_tokens: z.int().min(1).max(1_048_576).default(128).meta({
    description: 'Tokens to make at most.',
    source,
  }),
  do_sample: z.boolean().default(false).meta({
    description: 'Draw tokens by their probability. False: always the likeliest.',
    source,
  }),
  temperature: z.number().positive().max(1000).default(1).meta({
    description: 'Above 1 evens the probabilities out.',
    source,
  }),
  top_k: z.int().min(0).max(10_000_000).default(50).meta({
    description: 'Draw from the likeliest k tokens. 0: from all.',
    source,
  }),
  top_p: z.number().positive().max(1).default(1).meta({
    description: 'Draw from the likeliest tokens that make up this share.',
    source,
  }),
  repetition_penalty: z.number().positive().max(1000).default(1).meta({
    description: 'Above 1 makes tokens that were there before less likely.',
    source,
  }),
  json,
})

export const generate = configCommand({
  name: 'generate',
  summary: 'Let a model answer, with or without an adapter.',
  usage: '[CONFIG.yaml] --model_name_or_path M [--adapter DIR] --prompt TEXT [--option value …]',
  options,
  run: async ({ resolved, own }, world) => {
    checkOffered(resolved)
    const question = questionOf(own)
    print(
      world.stderr,
      notices(resolved).map((message) => `Note: ${message}`),
    )
    const answer = await ask(await world.engine(), resolved.config, {
      question,
      adapter: own.adapter ?? null,
      sampling: {
        maxNewTokens: own.max_new_tokens,
        doSample: own.do_sample,
        temperature: own.temperature,
        topK: own.top_k,
        topP: own.top_p,
        repetitionPenalty: own.repetition_penalty,
      },
      signal: world.interruptible(),
    })
    print(world.stdout, [own.json ? JSON.stringify(answer) : answer.text])
  },
})

const questionOf = ({ prompt, instruction, input, chat, system }: z.output<typeof options>): Question => {
  if (prompt !== undefined && instruction !== undefined) {
    throw new LoraTrainError('USAGE', '--prompt and --instruction are both given', 'Give one of the two.')
  }
  if (prompt !== undefined)
    return chat ? { kind: 'chat', prompt, system: system ?? null } : { kind: 'text', prompt }
  if (instruction !== undefined) return { kind: 'row', instruction, input: input ?? '' }
  throw new LoraTrainError(
    'USAGE',
    'there is nothing to answer',
    'Give --prompt TEXT, or --instruction TEXT.',
  )
}
