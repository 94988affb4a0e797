// The section `quantization`, under the names of Transformers' BitsAndBytesConfig.

import { z } from 'zod'
import { bitsAndBytesConfig as source } from '../meta.js'

export const QuantizationConfig = z.strictObject({
  load_in_4bit: z.boolean().default(false).meta({
    description: 'Keep the frozen linear layers in 4 bits.',
    source,
  }),
  load_in_8bit: z.boolean().default(false).meta({
    description:
      'Keep the frozen linear layers in int8 with a scale for each row, as LLM.int8() keeps weights. Products use the unpacked weights: activations are never quantised, so no outliers are treated apart.',
    source,
  }),
  bnb_4bit_quant_type: z.enum(['nf4', 'fp4']).default('fp4').meta({
    description: 'The 4-bit code. nf4 is closer to most weights in the same bits.',
    source,
  }),
  bnb_4bit_use_double_quant: z.boolean().default(false).meta({
    description: 'Quantise the scales of the blocks too.',
    source,
  }),
  bnb_4bit_compute_dtype: z
    .enum(['float32', 'bfloat16', 'float16'])
    .default('float32')
    .meta({
      description: 'Precision of the products with the unpacked weights.',
      source,
      value_aliases: {
        bf16: 'bfloat16',
        fp16: 'float16',
        fp32: 'float32',
        'torch.bfloat16': 'bfloat16',
        'torch.float16': 'float16',
        'torch.float32': 'float32',
      },
    }),
  llm_int8_skip_modules: z.array(z.string().min(1)).nullable().default(null).meta({
    description:
      'Linear layers that keep their stored type, by ending or by an expression from the start of the path.',
    source,
    default_text: 'none; the head is never quantised',
  }),
})
export type QuantizationConfig = z.output<typeof QuantizationConfig>
