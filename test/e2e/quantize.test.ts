// `quantize` on the real engine: a training on the folder that it writes has the losses of one that quantises while
// loading; what can't be is refused, and leaves nothing.

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import {
  type ConfigInput,
  exitStatus,
  LoraTrainError,
  quantize,
  type TrainEvent,
  train,
} from '../../ts/index.js'
import { folderOf } from '../folder.js'
import { ofType } from '../trainer/run.js'
import { goldens, writeGoldenModel } from './model.js'
import { program } from './program.js'

/** Tokens that the smallest vocabulary has too: the GGUF's. */
const lettersOnly = ['a', 'bc', 'xyz', 'q'].map((text) => ({
  instruction: `repeat${text}`,
  input: '',
  output: text.repeat(3),
}))
const template = { prompt_input: '{instruction}{input}', prompt_no_input: '{instruction}' }

type Quantization = NonNullable<ConfigInput['quantization']>

const eventsOf = async (events: AsyncIterable<TrainEvent>): Promise<TrainEvent[]> => {
  const all: TrainEvent[] = []
  for await (const event of events) all.push(event)
  return all
}

const lossesOf = async (folder: string, name: string, config: Partial<ConfigInput>): Promise<number[]> => {
  const data_path = join(folder, 'rows.json')
  writeFileSync(data_path, JSON.stringify(lettersOnly))
  const run = {
    ...{ data_path, output_dir: join(folder, name), template, lora: {}, seed: 7 },
    ...{ max_steps: 3, per_device_train_batch_size: 2, quantized_cache_dir: 'none' },
    ...config,
  }
  return ofType(await eventsOf(train(run as ConfigInput)), 'step').map(({ loss }) => loss)
}

const sameLosses = async (
  t: ExecutionContext,
  folder: string,
  model_name_or_path: string,
  quantization: Quantization,
): Promise<TrainEvent[]> => {
  const output_dir = join(folder, 'quantized')
  const given = { model_name_or_path, tokenizer_name: join(folder, 'model'), quantization }
  const events = await eventsOf(quantize({ ...given, output_dir }))
  const ours = await lossesOf(folder, 'on-it', { model_name_or_path: output_dir })
  t.is(ours.length, 3)
  t.deepEqual(ours, await lossesOf(folder, 'on-the-original', given))
  return events
}

const kinds: [name: string, quantization: Quantization][] = [
  ['nf4, nested', { load_in_4bit: true, bnb_4bit_quant_type: 'nf4', bnb_4bit_use_double_quant: true }],
  ['fp4', { load_in_4bit: true, bnb_4bit_quant_type: 'fp4' }],
  ['int8', { load_in_8bit: true }],
]

for (const [name, quantization] of kinds) {
  test(`${name}: a training on the folder has the losses of the original`, async (t) => {
    const folder = folderOf(t)
    const model = writeGoldenModel(join(folder, 'model'))
    const events = await sameLosses(t, folder, model, quantization)
    const out = join(folder, 'quantized')
    const saved = ofType(events, 'saved')
    t.deepEqual(
      saved.map(({ what, path }) => [what, path]),
      [
        ['model', out],
        ['tokenizer', out],
      ],
    )
    t.is(ofType(events, 'checked')[0]?.largestDeviation, 0)
    const config = JSON.parse(readFileSync(join(out, 'config.json'), 'utf8'))
    t.is(config.quantization_config.quant_method, 'bitsandbytes')
    for (const file of ['generation_config.json', 'tokenizer.json', 'tokenizer_config.json'])
      t.true(existsSync(join(out, file)), file)
  })
}

test('a GGUF file becomes such a folder', async (t) => {
  const folder = folderOf(t)
  writeGoldenModel(join(folder, 'model'))
  await sameLosses(t, folder, join(goldens, 'gguf', 'tiny-llama.gguf'), {
    load_in_4bit: true,
    bnb_4bit_quant_type: 'nf4',
  })
})

test('the command says what it did, and what it is refused for', async (t) => {
  const folder = folderOf(t)
  const model = writeGoldenModel(join(folder, 'model'))
  const [out, other] = [join(folder, 'new', 'out'), join(folder, 'other')]
  const asked = (from: string, to: string, ...more: string[]) =>
    program('quantize', '--model_name_or_path', from, '--output_dir', to, ...more)
  const done = await asked(model, out, '--load_in_8bit', 'true')
  t.is(done.status, 0, done.stderr)
  t.regex(done.stdout, /^Saved model to .*out\nSaved tokenizer to .*out\nChecked model in .*out: /m)

  const cases: [words: Parameters<typeof asked>, status: number, message: RegExp][] = [
    [[model, other], 2, /neither of them is true/],
    [[model, other, '--load_in_4bit', 'true', '--load_in_8bit', 'true'], 2, /both true/],
    [[model, out, '--load_in_8bit', 'true'], 8, /holds \d+ files already/],
    [[out, other, '--load_in_4bit', 'true'], 4, /hold 14 weights in 8 bits already/],
    [
      [model, other, '--load_in_8bit', 'true', '--llm_int8_skip_modules', 'proj'],
      2,
      /no weight was quantised/,
    ],
    [[join(folder, 'none'), other, '--load_in_4bit', 'true'], 4, /none/],
  ]
  for (const [words, status, message] of cases) {
    const refused = await asked(...words)
    t.is(refused.status, status, refused.stderr)
    t.regex(refused.stderr, message)
    t.false(existsSync(other))
  }
  const again = await asked(model, out, '--load_in_4bit', 'true', '--overwrite_output_dir', 'true')
  t.is(again.status, 0, again.stderr)
  t.regex(again.stdout, /^Checked model in .*out: /m)
})

test('a signal before the weights are there ends it with nothing left', async (t) => {
  const folder = folderOf(t)
  const model_name_or_path = writeGoldenModel(join(folder, 'model'))
  const stop = new AbortController()
  const config = {
    ...{ model_name_or_path, output_dir: join(folder, 'out') },
    quantization: { load_in_8bit: true },
  }
  const error = await t.throwsAsync(
    async () => {
      for await (const event of quantize(config, { signal: stop.signal }))
        if (event.type === 'loaded') stop.abort()
    },
    { instanceOf: LoraTrainError },
  )
  t.is(exitStatus((error as LoraTrainError).code), 130)
  t.deepEqual(readdirSync(folder), ['model'])
})
