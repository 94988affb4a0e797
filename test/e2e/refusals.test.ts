// Wrong input on the real engine: each is refused with one message that helps, its exit status, and nothing left behind.

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { native } from '../../ts/native/index.js'
import { runWords } from '../cli/help.js'
import { goldens, joinSafetensors, splitSafetensors } from './model.js'
import { program } from './program.js'
import { edit, placeOf, refused, type Wrong, wallMsMax, withData } from './refused.js'

type Entry = { dtype: string; shape: number[]; data_offsets: [number, number] }

/** The model with another header in its safetensors; the bytes of the tensors stay. */
const withHeader =
  (change: (header: Record<string, Entry>) => void): Wrong =>
  ({ model }) => {
    const path = join(model, 'model.safetensors')
    const { header, data } = splitSafetensors(path)
    change(header as Record<string, Entry>)
    joinSafetensors(path, header, data)
    return []
  }

/** A GGUF file with other bytes; its tokenizer is the folder's, since it has none. */
const withGguf =
  (change: (bytes: Buffer) => Buffer): Wrong =>
  ({ folder, model }) => {
    const path = join(folder, 'model.gguf')
    writeFileSync(path, change(readFileSync(join(goldens, 'gguf', 'tiny-llama.gguf'))))
    return ['--model_name_or_path', path, '--tokenizer_name', model]
  }

const norm = 'model.norm.weight'
const query = 'model.layers.0.self_attn.q_proj.weight'

// Options.
refused('a misspelt option', 2, [/unknown option --learning_rat$/m, /Did you mean --learning_rate\?/], () => [
  '--learning_rat',
  '1',
])
refused('a misspelt option in a section', 2, [/--lora\.alpa$/m, /Did you mean --lora_alpha\?/], () => [
  '--lora.alpa',
  '1',
])
refused('a misspelt name in a config file', 2, [/run\.yaml:1/, /num_train_epochs/], ({ folder }) => {
  writeFileSync(join(folder, 'run.yaml'), 'num_train_epoch: 1\n')
  return [join(folder, 'run.yaml')]
})
refused('an adapter on modules that the model lacks', 2, [/`qproj`/, /q_proj, k_proj/], () => [
  '--lora.target_modules',
  'qproj',
])
test('a missing option is named', async (t) => {
  const model = ['--model_name_or_path', 'm']
  for (const [words, name] of [
    [['train'], 'model_name_or_path'],
    [['train', ...model], 'data_path'],
    [['train', ...model, '--data_path', 'd'], 'output_dir'],
  ] as const) {
    const { status, stderr } = await runWords(words, await native())
    t.is(status, 2)
    t.regex(stderr, new RegExp(`^error: ${name} is missing\nhint: .*--${name}`))
  }
})

// Model files.
refused('a model that is not there', 4, [/nowhere: no such file or folder/], ({ folder }) => [
  '--model_name_or_path',
  join(folder, 'nowhere'),
])
refused(
  'a model folder without config',
  4,
  [/model: the folder has no config\.json/, /\.gguf/],
  ({ model }) => {
    rmSync(join(model, 'config.json'))
    return []
  },
)
refused('an architecture that nobody wrote', 4, [/`mamba`/, /Known are: .*llama/], ({ model }) => {
  edit(join(model, 'config.json'), (config) => Object.assign(config, { model_type: 'mamba' }))
  return []
})
refused('an unknown architecture, before the rows are read', 4, [/`mamba`/], (place) => {
  edit(join(place.model, 'config.json'), (config) => Object.assign(config, { model_type: 'mamba' }))
  return withData('not.json', '[')(place)
})
refused('a config with a size that is none', 4, [/config\.json: `hidden_size` is -1/], ({ model }) => {
  edit(join(model, 'config.json'), (config) => Object.assign(config, { hidden_size: -1 }))
  return []
})
for (const length of [0, 7, 100, 20_000]) {
  refused(
    `safetensors cut at byte ${length}`,
    4,
    [/model\.safetensors: .*byte/, new RegExp(`\\b${length}\\b`), /Download the file again/],
    ({ model }) => {
      const path = join(model, 'model.safetensors')
      writeFileSync(path, readFileSync(path).subarray(0, length))
      return []
    },
  )
}
refused('a header that promises terabytes', 4, [/5497558138880 bytes for the header/], ({ model }) => {
  const path = join(model, 'model.safetensors')
  const bytes = readFileSync(path)
  bytes.writeBigUInt64LE(5n << 40n)
  writeFileSync(path, bytes)
  return []
})
refused(
  'a tensor that promises terabytes',
  4,
  [/`model\.norm\.weight` ends at byte 4398046/],
  withHeader((header) => {
    header[norm] = { dtype: 'F32', shape: [2 ** 40], data_offsets: [0, 2 ** 42] }
  }),
)
refused(
  'a shape whose product overflows',
  4,
  [/`model\.norm\.weight`/, /\[1099511627776, 1099511627776\]/],
  withHeader((header) => {
    Object.assign(header[norm] ?? {}, { shape: [2 ** 40, 2 ** 40] })
  }),
)
refused(
  'a tensor of another shape',
  4,
  [
    /`model\.layers\.0\.self_attn\.q_proj\.weight` has the shape \[42, 48\], config\.json makes it \[48, 42\]/,
  ],
  withHeader((header) => {
    header[query]?.shape.reverse()
  }),
)
refused(
  'a tensor of a type that is no weight',
  4,
  [/`model\.norm\.weight` is stored as I32/, /bfloat16/],
  withHeader((header) => {
    Object.assign(header[norm] ?? {}, { dtype: 'I32' })
  }),
)
refused(
  'a tensor of a type that nobody knows',
  4,
  [/`model\.norm\.weight` has the dtype F4X/],
  withHeader((header) => {
    Object.assign(header[norm] ?? {}, { dtype: 'F4X' })
  }),
)
refused(
  'a tensor that is missing',
  4,
  [/no tensor `model\.norm\.weight`/],
  withHeader((header) => {
    header.other = header[norm] ?? { dtype: 'F32', shape: [], data_offsets: [0, 0] }
    delete header[norm]
  }),
)
for (const length of [0, 3, 20, 200, 2000, 30_000]) {
  refused(
    `GGUF cut at byte ${length}`,
    4,
    [/model\.gguf, byte \d+: /, /Download the file again/],
    withGguf((bytes) => bytes.subarray(0, length)),
  )
}
/** Offsets of the counts in a GGUF header: after the magic and the version. */
for (const [what, offset] of [
  ['tensors', 8],
  ['keys', 16],
] as const) {
  refused(
    `GGUF that promises 2⁵⁰ ${what}`,
    4,
    [new RegExp(`byte ${offset}: 1125899906842624 ${what}`)],
    withGguf((bytes) => {
      const copy = Buffer.from(bytes)
      copy.writeBigUInt64LE(1n << 50n, offset)
      return copy
    }),
  )
}
refused('a tokenizer that is cut', 4, [/tokenizer\.json, line 1, column/], ({ model }) => {
  const path = join(model, 'tokenizer.json')
  writeFileSync(path, readFileSync(path).subarray(0, 300))
  return []
})
refused(
  'a token id out of the vocabulary',
  3,
  [/rows\.json: row 1 has the token 5000/, / 97 /],
  ({ model }) => {
    edit(join(model, 'tokenizer.json'), ({ model: { vocab } }: Record<string, any>) => {
      vocab.r = 5000
    })
    return []
  },
)

// Rows.
const good = { instruction: 'a', input: '', output: 'b' }
const line = JSON.stringify(good)
refused(
  'rows that are not JSON',
  3,
  [/broken\.json is not JSON: line 3, column 22: /],
  withData('broken.json', `[\n ${line},\n {"instruction": "a" "output": "b"}\n]`),
)
refused(
  'a line that is not JSON',
  3,
  [/broken\.jsonl is not JSON: line 2, column 17: /],
  withData('broken.jsonl', `${line}\n{"instruction": nothing}\n`),
)
refused(
  "a row without the template's field",
  3,
  [/row 3 has no field "instruction"/, /question, output/],
  withData('fields.json', JSON.stringify([good, good, { question: 'a', output: 'b' }])),
)
refused(
  'a row without an answer',
  3,
  [/row 2 has no field "output"/],
  withData('fields.json', JSON.stringify([good, { instruction: 'a' }])),
)
for (const [name, text] of [
  ['empty.json', ''],
  ['empty.jsonl', '\n\n'],
  ['none.json', '[]'],
] as const) {
  refused(`a file without a row: ${name}`, 3, [new RegExp(`${name} holds no row`)], withData(name, text))
}
const long = { ...good, instruction: 'long '.repeat(20) }
refused(
  'more than 1 % of the rows without a supervised token',
  3,
  [/2 of 100 rows have no supervised token \(rows 3, 100\)/, /model_max_length/],
  withData(
    'long.json',
    JSON.stringify([good, good, long, ...Array(96).fill(good), long]),
    '--model_max_length',
    '40',
  ),
)

// Places for results.
for (const option of ['output_dir', 'adapter_output_dir']) {
  refused(
    `${option} below a file`,
    8,
    [/rows\.json\/deep\/out can't be used: part of the path is a file/],
    ({ data }) => [`--${option}`, join(data, 'deep', 'out')],
  )
}
refused('output_dir is a file', 8, [/rows\.json can't be used: there is a file/], ({ data }) => [
  '--output_dir',
  data,
])

test('a folder that was there before a refusal stays, with what is in it', async (t) => {
  const { words, folder, model } = placeOf(t)
  mkdirSync(join(folder, 'out'))
  writeFileSync(join(folder, 'out', 'kept.txt'), 'kept')
  rmSync(join(model, 'config.json'))
  t.is((await runWords([...words, '--overwrite_output_dir'], await native())).status, 4)
  t.deepEqual(readdirSync(join(folder, 'out')), ['kept.txt'])
})

test.serial('the program itself: status, message, nothing else', async (t) => {
  const { words, folder, model, data } = placeOf(t)
  const path = join(model, 'model.safetensors')
  const whole = readFileSync(path)
  writeFileSync(path, whole.subarray(0, 20_000))
  const cut = await program(...words)
  t.like(cut, { status: 4, stdout: '' })
  t.regex(cut.stderr, /^error: [^\n]+ends at byte 36056, the file at 20000\nhint: [^\n]+\n$/)
  writeFileSync(path, whole)
  const below = await program(...words, '--output_dir', join(data, 'out'))
  t.like(below, { status: 8, stdout: '' })
  t.regex(below.stderr, /^error: [^\n]+\nhint: [^\n]+\n$/)
  for (const { wallMs } of [cut, below]) t.true(wallMs < wallMsMax)
  t.deepEqual(readdirSync(folder).sort(), ['model', 'rows.json'])
})
