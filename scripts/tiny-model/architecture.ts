// The tiny model's shape, and a folder of random weights in it. Trains nothing.

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Random } from './random.js'
import { type Tensor, writeSafetensors } from './safetensors.js'

/** The longest text that the model is made for, in tokens. */
export const MAX_LENGTH = 256

const SHAPE = {
  hidden_size: 128,
  intermediate_size: 384,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 32,
} as const

/** Standard deviation of the random weights: larger than Llama's 0.02, as the matrices are smaller. */
const INITIALIZER_RANGE = 0.05

function configOf(vocabSize: number): object {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    ...SHAPE,
    vocab_size: vocabSize,
    hidden_act: 'silu',
    max_position_embeddings: MAX_LENGTH,
    rms_norm_eps: 1e-5,
    rope_parameters: { rope_type: 'default', rope_theta: 10000 },
    tie_word_embeddings: true,
    attention_bias: false,
    mlp_bias: false,
    attention_dropout: 0,
    initializer_range: INITIALIZER_RANGE,
    bos_token_id: 0,
    eos_token_id: 1,
    pad_token_id: 2,
    use_cache: true,
    dtype: 'bfloat16',
  }
}

/** Names and shapes [output, input] of the weights, in the order in which they are drawn. */
function shapes(vocabSize: number): [string, number[]][] {
  const { hidden_size: hidden, intermediate_size: inner, head_dim } = SHAPE
  const [queries, keys] = [SHAPE.num_attention_heads * head_dim, SHAPE.num_key_value_heads * head_dim]
  const block = (i: number): [string, number[]][] =>
    Object.entries({
      'self_attn.q_proj': [queries, hidden],
      'self_attn.k_proj': [keys, hidden],
      'self_attn.v_proj': [keys, hidden],
      'self_attn.o_proj': [hidden, queries],
      'mlp.gate_proj': [inner, hidden],
      'mlp.up_proj': [inner, hidden],
      'mlp.down_proj': [hidden, inner],
      input_layernorm: [hidden],
      post_attention_layernorm: [hidden],
    }).map(([name, shape]) => [`model.layers.${i}.${name}.weight`, shape])
  return [
    ['model.embed_tokens.weight', [vocabSize, hidden]],
    ...Array.from({ length: SHAPE.num_hidden_layers }, (_, i) => block(i)).flat(),
    ['model.norm.weight', [hidden]],
  ]
}

/** Writes config.json, generation_config.json and model.safetensors (f32; norms 1, the rest near-normal). */
export function writeRandomModel(folder: string, random: Random, vocabSize: number): void {
  mkdirSync(folder, { recursive: true })
  const tensors = shapes(vocabSize).map(([name, shape]): Tensor => {
    const size = shape.reduce((a, b) => a * b, 1)
    const values = Float32Array.from({ length: size }, () =>
      shape.length === 1 ? 1 : INITIALIZER_RANGE * random.normal(),
    )
    return { name, shape, values }
  })
  writeSafetensors(join(folder, 'model.safetensors'), tensors, 'F32')
  const generation = { bos_token_id: 0, eos_token_id: 1, pad_token_id: 2 }
  writeFileSync(join(folder, 'config.json'), `${JSON.stringify(configOf(vocabSize), null, 2)}\n`)
  writeFileSync(join(folder, 'generation_config.json'), `${JSON.stringify(generation, null, 2)}\n`)
}
