// `npm run make-tiny-model`: makes examples/tiny again, from nothing but seeds.
//
// Text and rows by the generators here, the tokenizer by bpe.ts, random weights by architecture.ts; then the project's
// own full fine-tuning on the text; then the weights stored as bf16. Needs the addon, and no network.

import { copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { train } from '../../ts/index.js'
import { createReport } from '../../ts/report/index.js'
import { MAX_LENGTH, writeRandomModel } from './architecture.js'
import { trainBpe, writeTokenizer } from './bpe.js'
import {
  makeHeldOutRows,
  makeTexts,
  makeTrainRows,
  pretrainingConfig,
  TOKENIZER_TEXTS,
  VOCAB_SIZE,
  weightsRandom,
} from './recipe.js'
import type { Row } from './rows.js'
import { readSafetensors, writeSafetensors } from './safetensors.js'

const ROOT = resolve(import.meta.dirname, '..', '..')
const EXAMPLES = join(ROOT, 'examples', 'tiny')
const WORK = join(ROOT, '.cache', 'tiny-model')
const MODEL_FILES = ['config.json', 'generation_config.json', 'tokenizer.json', 'tokenizer_config.json']

const writeRows = (path: string, rows: Row[]): void =>
  writeFileSync(path, `[\n${rows.map((row) => JSON.stringify(row)).join(',\n')}\n]\n`)

/** A text as a row: its first word is the prompt, since a prompt can't be empty. */
function textRow(text: string): Row {
  const end = text.search(/[\s,]/)
  return { instruction: text.slice(0, end), input: '', output: text.slice(end) }
}

async function pretrain(random: string, data: string, output: string): Promise<void> {
  const { stdout, stderr } = process
  const report = createReport({ stdout, stderr, format: 'text', progressStyle: 'shown' })
  for await (const event of train(pretrainingConfig(random, data, output))) report(event)
}

async function make(): Promise<void> {
  rmSync(WORK, { recursive: true, force: true })
  const [random, trained, model] = [join(WORK, 'random'), join(WORK, 'trained'), join(EXAMPLES, 'model')]
  for (const folder of [random, model]) mkdirSync(folder, { recursive: true })

  const [texts, rows] = [makeTexts(), makeTrainRows()]
  writeRows(join(EXAMPLES, 'train.json'), rows)
  writeRows(join(EXAMPLES, 'heldout.json'), makeHeldOutRows())
  const data = join(WORK, 'text.json')
  writeRows(data, texts.map(textRow))

  const sample = [...texts.slice(0, TOKENIZER_TEXTS), ...rows.map((row) => Object.values(row).join('\n'))]
  const bpe = trainBpe(sample, VOCAB_SIZE)
  writeTokenizer(random, bpe, MAX_LENGTH)
  writeRandomModel(random, weightsRandom(), bpe.vocabulary.length)

  await pretrain(random, data, trained)
  writeSafetensors(
    join(model, 'model.safetensors'),
    readSafetensors(join(trained, 'model.safetensors')),
    'BF16',
  )
  for (const file of MODEL_FILES) copyFileSync(join(random, file), join(model, file))
  process.stdout.write(`The tiny model is in ${model}\n`)
}

await make()
