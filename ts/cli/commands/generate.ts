// `lora-train generate`: one answer of a model, with or without an adapter.

import { z } from 'zod'
import { checkOffered, notices, SamplingConfig, samplingOf } from '../../config/index.js'
import { ours } from '../../config/meta.js'
import { LoraTrainError } from '../../native/errors.js'
import { generateWith, type Question } from '../../trainer/generate.js'
import { configCommand, hubOf, print } from '../command.js'
import { json } from '../options.js'

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
  ...SamplingConfig.shape,
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
    const answer = await generateWith(await world.engine(), resolved.config, {
      question,
      adapter: own.adapter ?? null,
      sampling: samplingOf(own),
      signal: world.interruptible(),
      hub: hubOf(world, resolved.config),
      onNotice: (message) => print(world.stderr, [`Note: ${message}`]),
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
