// Wrong input to the two runs, on their stand-ins: model files as they go wrong on the way from the hub, configs that
// ask for what no one can do, DeepSpeed's JSON, and keys that nobody knows. What any run can get wrong stands in
// `refusals.test.ts`; checkpoints and full disks have tests of their own.

import { copyFileSync, cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { folderOf } from '../folder.js'
import { goldens } from './model.js'
import { edit, type Place, refused, type Wrong } from './refused.js'
import { standins } from './two_runs.js'

const placeOf =
  (name: 'bloom' | 'mpt', ...method: string[]) =>
  (t: ExecutionContext): Place => {
    const folder = folderOf(t)
    const [model, data] = [join(folder, 'model'), join(folder, 'rows.json')]
    cpSync(join(standins, name), model, { recursive: true })
    copyFileSync(join(standins, 'rows.json'), data)
    const words = ['train', '--model_name_or_path', model, '--data_path', data]
    return { folder, model, data, words: [...words, '--output_dir', join(folder, 'out'), ...method] }
  }

/** The full fine-tuning. */
const bloom = placeOf('bloom')
/** The QLoRA. */
const mpt = placeOf('mpt', '--load_in_4bit', 'true', '--bnb_4bit_quant_type', 'nf4', '--lora')

const shard = (ending: string, number: number): string =>
  `${ending === 'bin' ? 'pytorch_model' : 'model'}-0000${number}-of-00003.${ending}`
const index = (ending: string): string =>
  `${ending === 'bin' ? 'pytorch_model' : 'model'}.${ending}.index.json`

/** Other entries in the index of the shards. */
const withIndex =
  (ending: string, change: (weightMap: Record<string, string>) => void): Wrong =>
  ({ model }) => {
    edit(join(model, index(ending)), (value) => change(value.weight_map as Record<string, string>))
    return []
  }

/** Another file of weights in place of all shards. */
const withBin =
  (bytes: () => Uint8Array): Wrong =>
  ({ model }) => {
    for (const name of readdirSync(model).filter((name) => name.startsWith('pytorch_model')))
      rmSync(join(model, name))
    writeFileSync(join(model, 'pytorch_model.bin'), bytes())
    return []
  }

const withConfig =
  (change: Record<string, unknown>): Wrong =>
  ({ model }) => {
    edit(join(model, 'config.json'), (config) => Object.assign(config, change))
    return []
  }

/** The options of attention are nested in the config of the original checkpoints. */
const withAttention =
  (change: Record<string, unknown>): Wrong =>
  ({ model }) => {
    edit(join(model, 'config.json'), ({ attn_config }) => Object.assign(attn_config as object, change))
    return []
  }

// Shards and their index.
for (const [ending, sound] of [
  ['bin', bloom],
  ['safetensors', mpt],
] as const) {
  const missing = shard(ending, 2)
  refused(
    `an index that names a missing shard: ${ending}`,
    4,
    [new RegExp(`${missing}`)],
    ({ model }) => {
      rmSync(join(model, missing))
      return []
    },
    sound,
  )
  refused(
    `a shard that is cut: ${ending}`,
    4,
    [new RegExp(`${missing}`)],
    ({ model }) => {
      const path = join(model, missing)
      writeFileSync(path, readFileSync(path).subarray(0, 20_000))
      return []
    },
    sound,
  )
  refused(
    `a shard that git-lfs has not fetched: ${ending}`,
    4,
    [new RegExp(`${missing}`)],
    ({ model }) => {
      const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${'0'.repeat(64)}\nsize 61561\n`
      writeFileSync(join(model, missing), pointer)
      return []
    },
    sound,
  )
  refused(
    `a shard outside the folder: ${ending}`,
    4,
    [/\.\.\//],
    withIndex(ending, (map) => {
      for (const name of Object.keys(map)) map[name] = `../${map[name]}`
    }),
    sound,
  )
  refused(
    `an index with another shard's tensor: ${ending}`,
    4,
    [/transformer\.[\w.]+/],
    withIndex(ending, (map) => {
      const norm = Object.keys(map).find((name) => map[name] === shard(ending, 3)) ?? ''
      map[norm] = shard(ending, 1)
    }),
    sound,
  )
  refused(
    `an index that is not JSON: ${ending}`,
    4,
    [new RegExp(index(ending).replaceAll('.', '\\.'))],
    ({ model }) => {
      writeFileSync(join(model, index(ending)), '{"weight_map": {')
      return []
    },
    sound,
  )
}

// Pickles: nothing in them is run.
const hostile = (name: string) => (): Uint8Array => readFileSync(join(goldens, 'bin', 'hostile', name))
refused(
  'a pickle that calls the system',
  4,
  [/pytorch_model\.bin/, /system/],
  withBin(hostile('system.bin')),
  bloom,
)
refused(
  'a pickle that evaluates text',
  4,
  [/pytorch_model\.bin/, /eval/],
  withBin(hostile('eval.bin')),
  bloom,
)
refused(
  'a page of a web server in place of weights',
  4,
  [/pytorch_model\.bin/],
  withBin(() => Buffer.from('<!doctype html><title>Sign in</title>')),
  bloom,
)
refused(
  'an empty file of weights',
  4,
  [/pytorch_model\.bin/],
  withBin(() => new Uint8Array()),
  bloom,
)

// What the original code of MPT and BLOOM can do, and no published model of theirs uses.
for (const [title, wrong, fact] of [
  ['norms on queries and keys', withAttention({ qk_ln: true }), /qk_ln/],
  ['a prefix that sees itself', withAttention({ prefix_lm: true }), /prefix_lm/],
  ['multi-query attention', withAttention({ attn_type: 'multiquery_attention' }), /attn_type/],
  ['learned positions', withAttention({ alibi: false }), /alibi/],
  ['scaled logits', withConfig({ logit_scale: 'inv_sqrt_d_model' }), /logit_scale/],
  ['another norm', withConfig({ norm_type: 'rmsnorm' }), /norm_type/],
] as const) {
  refused(`MPT with ${title}`, 4, [/config\.json/, fact], wrong, mpt)
}
refused(
  'BLOOM with the residual behind the norm',
  4,
  [/apply_residual_connection_post_layernorm/],
  withConfig({ apply_residual_connection_post_layernorm: true }),
  bloom,
)
refused(
  'heads that do not divide the width',
  4,
  [/config\.json/],
  withConfig({ num_attention_heads: 5 }),
  bloom,
)
refused(
  'a vocabulary of another size than the embedding',
  4,
  [/word_embeddings\.weight/, /513/],
  withConfig({ vocab_size: 513 }),
  bloom,
)
refused(
  'an adapter on modules of another family',
  2,
  [/`q_proj`/, /query_key_value, dense/],
  () => ['--lora', '--target_modules', 'q_proj'],
  bloom,
)

// Options that exclude each other, or that nobody knows.
refused('two precisions', 2, [/fp16/, /bf16/], () => ['--fp16', 'true', '--bf16', 'true'], bloom)
refused(
  '4 bits without an adapter',
  2,
  [/load_in_4bit needs a section lora/],
  () => ['--load_in_4bit', 'true'],
  bloom,
)
refused(
  '4 and 8 bits at once',
  2,
  [/load_in_8bit and load_in_4bit are both true/],
  () => ['--load_in_4bit', 'true', '--load_in_8bit', 'true', '--lora', 'true'],
  bloom,
)
refused(
  '4 bits of another kind',
  2,
  [/bnb_4bit_quant_type/, /af4/, /nf4/],
  () => ['--bnb_4bit_quant_type', 'af4'],
  mpt,
)
refused(
  'an optimizer that nobody knows',
  2,
  [/adamw_8bti/, /adamw_8bit/],
  () => ['--optim', 'adamw_8bti'],
  bloom,
)
refused('a model larger than the memory', 5, [/memory/, /1\.0 MiB/], () => ['--memory', '1MiB'], bloom)

const withFile =
  (name: string, text: string, ...words: string[]): Wrong =>
  ({ folder }) => {
    writeFileSync(join(folder, name), text)
    return [...words, join(folder, name)]
  }
for (const [level, text, facts] of [
  ['the top', 'num_train_epochz: 1\n', [/num_train_epochz/, /num_train_epochs/]],
  ['lora', 'lora:\n  r: 8\n  lora_alfa: 16\n', [/lora\.lora_alfa/, /lora_alpha/]],
  [
    'quantization',
    'quantization: { load_in_4bits: true }\n',
    [/quantization\.load_in_4bits/, /load_in_4bit\b/],
  ],
  [
    'template',
    'template: { prompt_inputs: "{instruction}" }\n',
    [/template\.prompt_inputs/, /prompt_input\b/],
  ],
  ['special_tokens', 'special_tokens: { pad_tokn: "[PAD]" }\n', [/special_tokens\.pad_tokn/, /pad_token\b/]],
] as const) {
  refused(
    `an unknown key at ${level} of a YAML file`,
    2,
    [/run\.yaml:\d/, ...facts],
    withFile('run.yaml', text),
    bloom,
  )
}
refused(
  'a value of another type',
  2,
  [/run\.yaml:2/, /lora\.r\b/],
  withFile('run.yaml', 'lora:\n  r: many\n'),
  bloom,
)
refused(
  'a list where sections belong',
  2,
  [/run\.yaml/],
  withFile('run.yaml', '- lora\n- quantization\n'),
  bloom,
)
refused('YAML with a stray bracket', 2, [/run\.yaml/], withFile('run.yaml', 'lora: { r: 8\n'), bloom)

// DeepSpeed's JSON.
const deepspeed = (value: unknown): Wrong =>
  withFile('deepspeed.json', typeof value === 'string' ? value : JSON.stringify(value), '--deepspeed')
for (const [title, value, facts, ...words] of [
  [
    '`auto` that nothing resolves',
    { zero_optimization: { stage: 'auto' } },
    [/stage/, /"auto", which nothing resolves/],
  ],
  [
    'an unknown key',
    { gradient_acumulation_steps: 2 },
    [/gradient_acumulation_steps/, /gradient_accumulation_steps/],
  ],
  [
    'a value that contradicts the command line',
    { gradient_accumulation_steps: 4 },
    [/deepspeed\.json/, /--gradient_accumulation_steps/],
    '--gradient_accumulation_steps',
    '8',
  ],
  ['half precision', { fp16: { enabled: true } }, [/fp16/]],
  ['no JSON', '{ "bf16": ', [/deepspeed\.json/]],
] as const) {
  refused(
    `a DeepSpeed file with ${title}`,
    2,
    [...facts],
    (place) => [...deepspeed(value)(place), ...words],
    bloom,
  )
}
refused('a DeepSpeed file that is not there', 2, [/none\.json/], () => ['--deepspeed', 'none.json'], bloom)
