// Options of generation: how many tokens, and how each is chosen. A command's and a call's, not a training config's.

import { z } from 'zod'

const source = 'transformers.GenerationConfig'

export const SamplingConfig = z.strictObject({
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
})
export type SamplingConfig = z.output<typeof SamplingConfig>
