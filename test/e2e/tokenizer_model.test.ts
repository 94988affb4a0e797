// Models whose tokenizer is SentencePiece's `tokenizer.model` alone, on the real engine: trained, and what is left of
// the tokenizer loads again. That the ids are Transformers' is tested in the engine.

import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { type ConfigInput, generate, inspectRows, type TrainEvent, train } from '../../ts/index.js'
import { native, unwrap } from '../../ts/native/index.js'
import { folderOf } from '../folder.js'
import { ofType } from '../trainer/run.js'
import { goldens, shortTemplate, writeGoldenModel } from './model.js'

const words = join(goldens, 'sentencepiece', 'words.model')

const runOf = (t: ExecutionContext) => {
  const folder = folderOf(t)
  const path = writeGoldenModel(join(folder, 'model'))
  rmSync(join(path, 'tokenizer.json'))
  cpSync(words, join(path, 'tokenizer.model'))
  const named = { tokenizer_class: 'LlamaTokenizer', pad_token: '<pad>' }
  writeFileSync(join(path, 'tokenizer_config.json'), JSON.stringify(named))
  const data_path = join(folder, 'rows.json')
  const rows = ['die der', 'und in', 'von zu', 'das mit'].map((instruction) => ({
    ...{ instruction, input: '' },
    output: `${instruction} wird`,
  }))
  writeFileSync(data_path, JSON.stringify(rows))
  return {
    ...{ model_name_or_path: path, data_path, output_dir: join(folder, 'out'), template: shortTemplate },
    ...{ max_steps: 2, per_device_train_batch_size: 2, logging_steps: 1 },
  } satisfies ConfigInput
}

const eventsOf = async (config: ConfigInput): Promise<TrainEvent[]> => {
  const events: TrainEvent[] = []
  for await (const event of train(config)) events.push(event)
  return events
}

/** Ids of a text, and the named tokens, by the tokenizer of a folder. */
const tokensOf = async (path: string): Promise<unknown> => {
  const tokenizer = unwrap(await (await native()).openTokenizer(path))
  const texts = ['die der und', '  das</s> der', '<pad>']
  const ids = await Promise.all(texts.map(async (text) => [...unwrap(await tokenizer.encode(text, true))]))
  return { ids, info: tokenizer.info() }
}

test('rows are cut into its pieces', async (t) => {
  const { shown } = await inspectRows(runOf(t), { first: 1, count: 1 })
  t.deepEqual(
    shown[0]?.segments.map(({ supervised, tokens }) => [supervised, tokens.join('')]),
    [
      // The template's colon is none of its letters.
      [false, '<s> die der<unk>'],
      [true, 'die der wird</s>'],
    ],
  )
})

for (const [name, method, what] of [
  ['an adapter', { lora: {} }, 'adapter'],
  ['a whole model', {}, 'model'],
] as const) {
  test(`${name} is trained, and written with a tokenizer that loads again`, async (t) => {
    const config = { ...runOf(t), ...method }
    const events = await eventsOf(config)
    t.is(events.at(-1)?.type, 'done')
    t.true(ofType(events, 'saved').some((saved) => saved.what === what))
    const { model_name_or_path: source, output_dir: output } = config
    t.deepEqual(await tokensOf(output), await tokensOf(source))
    t.deepEqual(readFileSync(join(output, 'tokenizer.model')), readFileSync(words))
    t.true(existsSync(join(output, 'tokenizer.json')))
  })
}

test('a written model is a model like any other', async (t) => {
  const config = runOf(t)
  await eventsOf(config)
  const again = { ...config, model_name_or_path: config.output_dir, output_dir: join(config.output_dir, 'b') }
  t.is((await eventsOf(again)).at(-1)?.type, 'done')
  const question = { kind: 'text', prompt: 'die der' } as const
  const { ids } = await generate(again, { question, sampling: { max_new_tokens: 4 } })
  t.true(ids.length > 0)
})

test('a damaged one is refused by its byte', async (t) => {
  const config = runOf(t)
  writeFileSync(join(config.model_name_or_path, 'tokenizer.model'), readFileSync(words).subarray(0, 500))
  await t.throwsAsync(eventsOf(config), { message: /tokenizer\.model, byte \d+: the file ends/ })
})
