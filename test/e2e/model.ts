// Models that tests train for real: a golden's weights with a tokenizer of characters, and one of any size at random.

import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Tensor, writeSafetensors } from '../../scripts/tiny-model/safetensors.js'

/** The project's own reference results. */
export const goldens = fileURLToPath(new URL('../goldens', import.meta.url))

const specials = ['<unk>', '<s>', '</s>', '<pad>']
const characters = [...'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 \n#:.,?!\'-"()']

/** A tokenizer of single characters: BPE without a merge, under the golden models' 97 tokens. */
const tokenizerJson = {
  version: '1.0',
  truncation: null,
  padding: null,
  added_tokens: specials.map((content, id) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  })),
  normalizer: null,
  pre_tokenizer: null,
  post_processor: null,
  decoder: { type: 'Fuse' },
  model: {
    type: 'BPE',
    dropout: null,
    unk_token: '<unk>',
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: false,
    byte_fallback: false,
    vocab: Object.fromEntries([...specials, ...characters].map((token, id) => [token, id])),
    merges: [],
  },
}

const tokenizerConfig = {
  tokenizer_class: 'PreTrainedTokenizerFast',
  unk_token: '<unk>',
  bos_token: '<s>',
  eos_token: '</s>',
  pad_token: '<pad>',
}

/** Writes the tokenizer of characters. */
export const writeTokenizer = (folder: string): void => {
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(tokenizerJson))
  writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify(tokenizerConfig))
}

/** Writes the golden model `name` with a tokenizer to `folder`, and returns the folder. */
export const writeGoldenModel = (folder: string, name = 'llama-bias'): string => {
  mkdirSync(folder, { recursive: true })
  for (const file of ['config.json', 'generation_config.json', 'model.safetensors']) {
    cpSync(join(goldens, 'models', name, file), join(folder, file))
  }
  writeTokenizer(folder)
  return folder
}

/** A template that costs few tokens of one character. */
export const shortTemplate = { prompt_input: '{instruction} {input}:', prompt_no_input: '{instruction}:' }

/** Rows that the tokenizer has every character of. */
export const rows = (count: number): { instruction: string; input: string; output: string }[] =>
  Array.from({ length: count }, (_, i) => ({
    instruction: `repeat ${i % 5}`,
    input: i % 2 === 0 ? '' : 'twice',
    output: String(i % 5).repeat(3),
  }))

/** The size of a Llama of random weights. Shapes: C hidden_size, F intermediate_size, V vocab_size. */
export interface Size {
  hidden_size: number
  intermediate_size: number
  num_hidden_layers: number
  num_attention_heads: number
  vocab_size: number
}

/** Writes such a model, its weights below 0.05, and returns the folder. It has no tokenizer. */
export const writeRandomModel = (folder: string, size: Size): string => {
  const { hidden_size: C, intermediate_size: F, vocab_size: V } = size
  let state = 1
  const random = (): number => {
    // A linear congruential generator (Numerical Recipes): any spread of small values does.
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return (state / 2 ** 32 - 0.5) / 10
  }
  const matrix = (name: string, ...shape: number[]): Tensor => ({
    name,
    shape,
    values: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, random),
  })
  const norm = (name: string): Tensor => ({ name, shape: [C], values: new Float32Array(C).fill(1) })
  const blocks = Array.from({ length: size.num_hidden_layers }, (_, layer) => {
    const at = `model.layers.${layer}`
    return [
      norm(`${at}.input_layernorm.weight`),
      ...['q', 'k', 'v', 'o'].map((name) => matrix(`${at}.self_attn.${name}_proj.weight`, C, C)),
      norm(`${at}.post_attention_layernorm.weight`),
      matrix(`${at}.mlp.gate_proj.weight`, F, C),
      matrix(`${at}.mlp.up_proj.weight`, F, C),
      matrix(`${at}.mlp.down_proj.weight`, C, F),
    ]
  })
  mkdirSync(folder, { recursive: true })
  const config = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_act: 'silu',
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-5,
    rope_parameters: { rope_type: 'default', rope_theta: 10_000 },
    tie_word_embeddings: true,
    num_key_value_heads: size.num_attention_heads,
    eos_token_id: 2,
    ...size,
  }
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config))
  const tensors = [matrix('model.embed_tokens.weight', V, C), ...blocks.flat(), norm('model.norm.weight')]
  writeSafetensors(join(folder, 'model.safetensors'), tensors, 'F32')
  return folder
}

/** The header of a safetensors file and what follows it. */
export const splitSafetensors = (path: string): { header: Record<string, unknown>; data: Buffer } => {
  const bytes = readFileSync(path)
  const end = 8 + Number(bytes.readBigUInt64LE(0))
  return { header: JSON.parse(bytes.toString('utf8', 8, end)), data: bytes.subarray(end) }
}

/** Writes a safetensors file of a header that may say anything. */
export const joinSafetensors = (path: string, header: unknown, data: Uint8Array): void => {
  const json = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  writeFileSync(path, Buffer.concat([length, json, data]))
}
