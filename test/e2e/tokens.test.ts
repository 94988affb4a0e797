// Special tokens and the vocabularies that grow for them, on the real engine: what is added, said, trained and left.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { type ConfigInput, generate, inspectRows, type TrainEvent, train } from '../../ts/index.js'
import { native, unwrap } from '../../ts/native/index.js'
import { folderOf } from '../folder.js'
import { ofType } from '../trainer/run.js'
import { rows, shortTemplate, splitSafetensors, writeGoldenModel } from './model.js'

const characters = [...'abcdefghijklmnopqrstuvwxyz0123456789 :']

/** A tokenizer of characters with as many tokens as are asked for, and the special ones that are named. */
const writeTokenizerOf = (folder: string, size: number, named: Record<string, string>): void => {
  const path = join(folder, 'tokenizer.json')
  const json = JSON.parse(readFileSync(path, 'utf8'))
  const specials = ['<unk>', '<s>', '</s>']
  const known = [...specials, ...characters]
  const filler = Array.from({ length: size - known.length }, (_, i) => `<${i}>`)
  json.added_tokens = json.added_tokens.slice(0, specials.length)
  json.model.vocab = Object.fromEntries([...known, ...filler].map((token, id) => [token, id]))
  writeFileSync(path, JSON.stringify(json))
  const config = { tokenizer_class: 'PreTrainedTokenizerFast', ...named }
  writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify(config))
}

const withoutPad = { unk_token: '<unk>', bos_token: '<s>', eos_token: '</s>' }

interface Model {
  golden: string
  /** Rows of its embedding, and tokens of its tokenizer. */
  vocab: number
  tokens?: number
  named?: Record<string, string>
  folder?: string
}
const bloom: Model = { golden: 'bloom-hub', vocab: 67 }
const llama: Model = { golden: 'llama-bias', vocab: 97 }
const mpt: Model = { golden: 'mpt-original', vocab: 61, tokens: 55 }

const runOf = (t: ExecutionContext, model: Model, data: object[] = rows(8)) => {
  const folder = folderOf(t)
  const path = writeGoldenModel(join(folder, model.folder ?? 'model'), model.golden)
  writeTokenizerOf(path, model.tokens ?? model.vocab, model.named ?? withoutPad)
  const data_path = join(folder, 'rows.json')
  writeFileSync(data_path, JSON.stringify(data))
  return {
    model_name_or_path: path,
    data_path,
    output_dir: join(folder, 'out'),
    template: shortTemplate,
    special_tokens: { pad_token: '[PAD]' },
    max_steps: 2,
    per_device_train_batch_size: 2,
    logging_steps: 1,
  } satisfies ConfigInput
}

const eventsOf = async (config: ConfigInput): Promise<TrainEvent[]> => {
  const events: TrainEvent[] = []
  for await (const event of train(config)) events.push(event)
  return events
}
const saidIn = (events: TrainEvent[]): string[] => ofType(events, 'notice').map(({ message }) => message)

const readJson = (...path: string[]): Record<string, any> => JSON.parse(readFileSync(join(...path), 'utf8'))

/** Name → shape of an adapter's tensors that are not LoRA's own. */
const wholeTensors = (folder: string): Record<string, number[]> =>
  Object.fromEntries(
    Object.entries(splitSafetensors(join(folder, 'adapter_model.safetensors')).header as Record<string, any>)
      .filter(([name]) => name.startsWith('base_model') && !name.includes('.lora_'))
      .map(([name, { shape }]) => [name, shape]),
  )

const answer = async (config: ConfigInput, adapter?: string): Promise<number[]> => {
  const question = { kind: 'text', prompt: 'repeat 1:' } as const
  const sampling = { max_new_tokens: 6 }
  return (await generate(config, { question, sampling, ...(adapter && { adapter }) })).ids
}

const lossesOf = (events: TrainEvent[]): number[] =>
  ofType(events, 'log').flatMap(({ log }) =>
    'loss' in log && typeof log.loss === 'number' ? [log.loss] : [],
  )

for (const [name, model, keys] of [
  ['BLOOM, tied', bloom, ['lm_head', 'transformer.word_embeddings']],
  ['Llama, untied', llama, ['lm_head', 'model.embed_tokens']],
] as const) {
  test(`${name}: an adapter brings the vocabulary that grew, and is complete with it`, async (t) => {
    const config = { ...runOf(t, model), lora: {} }
    const { vocab } = model
    const events = await eventsOf(config)
    t.like(saidIn(events), {
      0: `special_tokens: pad_token is [PAD], added with the id ${vocab}`,
      1: `the vocabulary grows from ${vocab} rows to ${vocab + 1}; the new ones are the mean of the old`,
    })
    t.like(ofType(events, 'loaded')[0]?.model, { vocabSize: vocab + 1, storedVocabSize: vocab })
    const width = readJson(config.model_name_or_path, 'config.json')
    const shape = [vocab + 1, width.hidden_size ?? width.n_embed]
    t.deepEqual(
      wholeTensors(config.output_dir),
      Object.fromEntries(keys.map((key) => [`base_model.model.${key}.weight`, shape])),
    )
    const tokenizer = unwrap(await (await native()).openTokenizer(config.output_dir))
    t.like(tokenizer.info(), { padToken: '[PAD]', padId: vocab, vocabSize: vocab + 1 })
    const { special_tokens: _, ...plain } = config
    t.is((await answer(plain, config.output_dir)).length > 0, true)
    t.deepEqual(await answer(plain, config.output_dir), await answer(config, config.output_dir))
  })
}

test('full fine-tuning writes a model with the new size and the new token', async (t) => {
  for (const model of [bloom, llama]) {
    const config = runOf(t, model)
    const events = await eventsOf(config)
    t.is(events.at(-1)?.type, 'done')
    const written = readJson(config.output_dir, 'config.json')
    t.like(written, { vocab_size: model.vocab + 1, pad_token_id: model.vocab, eos_token_id: 2 })
    t.is(readJson(config.output_dir, 'generation_config.json').pad_token_id, model.vocab)
    // It is a model like any other: its tokenizer has the token, and nothing grows again.
    const again = {
      ...config,
      model_name_or_path: config.output_dir,
      output_dir: join(config.output_dir, 'again'),
    }
    const said = saidIn(await eventsOf(again))
    t.deepEqual(said, [])
    t.like(readJson(again.output_dir, 'config.json'), { vocab_size: model.vocab + 1 })
  }
})

test('MPT has room: the new token takes a free row, and the adapter stays plain', async (t) => {
  const config = { ...runOf(t, mpt), lora: { target_modules: ['up_proj', 'down_proj'] } }
  const events = await eventsOf(config)
  t.like(saidIn(events), {
    0: 'special_tokens: pad_token is [PAD], added with the id 55',
    1: 'the new token takes a free row: the model has 61',
  })
  t.deepEqual(wholeTensors(config.output_dir), {})
  const { special_tokens: _, ...without } = config
  const plain = await eventsOf({ ...without, output_dir: join(config.output_dir, 'plain') })
  t.deepEqual(lossesOf(events), lossesOf(plain))
  const full = { ...runOf(t, mpt) }
  await eventsOf(full)
  t.like(readJson(full.output_dir, 'config.json'), { vocab_size: 61, pad_token_id: 55 })
})

test('save_embedding_layers says whether the vocabulary goes with the adapter', async (t) => {
  const config = { ...runOf(t, llama), lora: { save_embedding_layers: false } }
  await eventsOf(config)
  t.deepEqual(wholeTensors(config.output_dir), {})
  t.is((await answer(config, config.output_dir)).length > 0, true)
  const always = { ...runOf(t, { ...llama, tokens: 60 }), lora: { save_embedding_layers: true } }
  await eventsOf(always)
  t.deepEqual(Object.values(wholeTensors(always.output_dir)), [
    [97, 42],
    [97, 42],
  ])
})

test('a base in 4 or 8 bits grows too', async (t) => {
  const four = (['nf4', 'fp4'] as const).map((type) => ({ load_in_4bit: true, bnb_4bit_quant_type: type }))
  for (const quantization of [...four, { load_in_8bit: true }]) {
    const config = { ...runOf(t, bloom), lora: {}, quantization }
    t.is((await eventsOf(config)).at(-1)?.type, 'done')
    t.is(Object.keys(wholeTensors(config.output_dir)).length, 2)
  }
})

const script = { pad_token: '[PAD]', eos_token: '</s>', bos_token: '</s>', unk_token: '</s>' }

test('the other tokens are set where the name says llama, and nowhere else', async (t) => {
  const other = { ...runOf(t, mpt), special_tokens: script, lora: {} }
  t.true(
    saidIn(await eventsOf(other)).includes(
      `special_tokens: no effect of eos_token, bos_token, unk_token: the model's name has no "llama" in it`,
    ),
  )
  t.like(readJson(other.output_dir, 'special_tokens_map.json'), { bos_token: '<s>', pad_token: '[PAD]' })

  const named = { ...runOf(t, { ...llama, folder: 'tiny-llama' }), special_tokens: script, lora: {} }
  t.true(
    saidIn(await eventsOf(named)).includes(
      'special_tokens: pad_token is [PAD], added with the id 97; bos_token is </s>, the token 2; it was <s>; ' +
        'unk_token is </s>, the token 2; it was <unk>',
    ),
  )
  t.deepEqual(readJson(named.output_dir, 'special_tokens_map.json'), script)
  const capital = { ...runOf(t, { ...llama, folder: 'Llama' }), special_tokens: script, lora: {} }
  await eventsOf(capital)
  t.is(readJson(capital.output_dir, 'special_tokens_map.json').bos_token, '<s>')
})

test('a pad token that is there stays', async (t) => {
  const config = runOf(t, { ...llama, named: { ...withoutPad, pad_token: '<0>' } })
  const said = saidIn(await eventsOf({ ...config, lora: {} }))
  t.deepEqual(said, ['special_tokens.pad_token has no effect: the tokenizer has <0>'])
  t.is(readJson(config.output_dir, 'special_tokens_map.json').pad_token, '<0>')
})

test('where the pad token is the end token, padding is masked by its place and never by its id', async (t) => {
  const data = [
    { instruction: 'a', input: '', output: '1</s>2' },
    { instruction: 'a longer one', input: '', output: '3' },
  ]
  const named = { ...withoutPad, pad_token: '</s>' }
  const config = { ...runOf(t, { ...llama, named }, data), lora: {} }
  const { shown } = await inspectRows(config)
  t.deepEqual(shown[0]?.segments.at(-1), { supervised: true, tokens: ['1', '</s>', '2', '</s>'] })
  t.is(shown[0]?.supervisedTokens, 4)
  // Padded to the longest row with the same id, the loss is that of rows without padding.
  const packed = await eventsOf(config)
  const padded = await eventsOf({ ...config, packing: false, output_dir: join(config.output_dir, 'padded') })
  const [first = 0] = lossesOf(packed)
  t.true(first > 0)
  t.true(Math.abs((lossesOf(padded)[0] ?? 0) - first) < 1e-6)
  t.is(ofType(packed, 'data')[0]?.supervisedTokens, 6)
})
