// `interop`: what both runs leave, loaded by the Python world: the full model in Transformers, the adapter in PEFT, the
// tokenizers in AutoTokenizer, the event files in TensorBoard's own reader, weights in 4 and 8 bits in
// bitsandbytes. Scripts: `bench/interop/*.py`.
// The runs are those of `examples/`, on their stand-ins, with steps large enough to be felt.

import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { engineOptions, resolveValues } from '../ts/config/index.js'
import type { Native } from '../ts/native/contract.js'
import { unwrap } from '../ts/native/index.js'
import { quantizeWith } from '../ts/trainer/quantize.js'
import { type Benchmark, figure, type Line, type World } from './figure.js'
import { pythonOf, root } from './places.js'
import { jsonLines, outputOf } from './process.js'

const goldens = join(root, 'test', 'goldens')
const standins = join(goldens, 'standins')
const runs = join(root, 'test', 'config', 'runs')
const bench = 'interop'

/** DESIGN §3, for logits in f32. A log-probability is a logit less what is common to all tokens of its place. */
const boundNats = 1e-4

/** Texts that the stand-ins' rows don't hold: both languages, spaces, another script, what a template writes. */
const texts = [
  'Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.',
  'The   quick\tbrown fox —\n\n### Response:',
  '日本語 🦊 naïve',
  '',
  '{instruction}',
]

/** Rows of ids, and for each place the tokens whose log-probability is asked. */
export interface Request {
  rows: number[][]
  tokens: number[][][]
}

/** The next token of each place and others spread over the vocabulary. */
export const requestOf = (rows: number[][], vocabSize: number, perPlace: number): Request => ({
  rows,
  tokens: rows.map((row) =>
    row.map((_, at) =>
      Array.from({ length: perPlace }, (_, k) =>
        k === 0 ? (row[at + 1] ?? 0) : (at * 131 + k * 7919) % vocabSize,
      ),
    ),
  ),
})

/** The largest difference of two answers in the same shape. Throws where shapes differ. */
export const largestDifference = (ours: number[][][], theirs: number[][][]): number => {
  const [a, b] = [ours.flat(2), theirs.flat(2)]
  if (a.length !== b.length || a.length === 0) throw new RangeError(`${a.length} values, not ${b.length}`)
  return a.reduce((worst, value, at) => Math.max(worst, Math.abs(value - (b[at] ?? Number.NaN))), 0)
}

/** Our answer to a request: one supervised token at a time, whose loss is its negative log-probability. */
const ourLogprobs = async (
  engine: Native,
  { model, adapter }: { model: string; adapter: string | null },
  { rows, tokens }: Request,
): Promise<number[][][]> => {
  const { config } = resolveValues({ model_name_or_path: model })
  const options = { ...engineOptions(config), method: { kind: 'none' }, adapter }
  const session = engine.openSession(JSON.stringify(options))
  try {
    unwrap(await session.load())
    const one = async (row: number[], at: number, token: number): Promise<number> => {
      // The engine shifts labels: the label behind a place is what the place predicts.
      const ids = Uint32Array.from([...row.slice(0, at + 1), 0])
      const labels = new Int32Array(ids.length).fill(-100)
      labels[at + 1] = token
      const batch = {
        ids,
        labels,
        seqStarts: Uint32Array.of(0, ids.length),
        microStarts: Uint32Array.of(0, 1),
      }
      return -unwrap(await session.evaluate(batch)).lossSum
    }
    const answers: number[][][] = []
    for (const [r, row] of rows.entries()) {
      const places: number[][] = []
      for (const at of row.keys()) {
        const place: number[] = []
        for (const token of tokens[r]?.[at] ?? []) place.push(await one(row, at, token))
        places.push(place)
      }
      answers.push(places)
    }
    return answers
  } finally {
    await session.close()
  }
}

interface Case extends World {
  python: string
  folder: string
}

const script = (name: string): string => join(root, 'bench', 'interop', name)

const written = (folder: string, name: string, value: unknown): string => {
  const path = join(folder, name)
  writeFileSync(path, JSON.stringify(value))
  return path
}

/** Runs the program as a person does. */
const trained = async ({ log }: World, name: string, ...words: string[]): Promise<void> => {
  log(`interop: ${name}`)
  await outputOf(process.execPath, ['--import=tsx', join(root, 'ts', 'cli', 'main.ts'), 'train', ...words])
}

/** Log-probabilities of a folder of ours beside those of the Python world. */
async function* compared(
  { engine, python, folder }: Case,
  name: string,
  of: { model: string; adapter: string | null; tokenizer: string; grownTo?: number },
): AsyncGenerator<Line> {
  const tokenizer = unwrap(await engine.openTokenizer(of.tokenizer))
  const rows: number[][] = []
  for (const text of texts.filter((text) => text !== ''))
    rows.push([...unwrap(await tokenizer.encode(text, true))])
  const { vocab_size } = JSON.parse(readFileSync(join(of.model, 'config.json'), 'utf8'))
  const request = requestOf(rows, of.grownTo ?? vocab_size, 8)
  const ours = await ourLogprobs(engine, of, request)
  const words = [script('logprobs.py'), of.model, written(folder, 'request.json', request)]
  const answer = await outputOf(python, [...words, ...(of.adapter === null ? [] : ['--adapter', of.adapter])])
  const value = largestDifference(ours, jsonLines<{ logprobs: number[][][] }>(answer)[0]?.logprobs ?? [])
  const fault = value <= boundNats ? null : 'over the bound'
  yield figure({ bench, case: name, value, unit: 'nats', limit: boundNats, limitName: 'bound', fault })
  // The base alone does not know the new tokens.
  if (of.adapter === null || of.grownTo !== undefined) return
  const effect = largestDifference(ours, await ourLogprobs(engine, { ...of, adapter: null }, request))
  yield {
    kind: 'note',
    bench,
    text: `${name}: without the adapter they differ by up to ${effect.toFixed(2)} nats`,
  }
}

/** Ids of texts by a tokenizer that we saved, and its special tokens, beside AutoTokenizer's. */
async function* sameTokens(
  { engine, python, folder }: Case,
  name: string,
  path: string,
): AsyncGenerator<Line> {
  const tokenizer = unwrap(await engine.openTokenizer(path))
  const answer = await outputOf(python, [script('tokenizer.py'), path, written(folder, 'texts.json', texts)])
  const [theirs] = jsonLines<{ ids: number[][]; special: Record<string, [string, number]> }>(answer)
  let equal = 0
  for (const [at, text] of texts.entries()) {
    const ours = [...unwrap(await tokenizer.encode(text, true))]
    if (JSON.stringify(ours) === JSON.stringify(theirs?.ids[at])) equal += 1
  }
  const info = tokenizer.info()
  const ownSpecial = { pad_token: [info.padToken, info.padId], eos_token: [info.eosToken, info.eosId] }
  const { pad_token, eos_token } = theirs?.special ?? {}
  const sameSpecial = JSON.stringify(ownSpecial) === JSON.stringify({ pad_token, eos_token })
  const fault =
    equal === texts.length && sameSpecial ? null : sameSpecial ? 'ids differ' : 'special tokens differ'
  yield figure({
    bench,
    case: name,
    value: equal,
    unit: 'texts',
    limit: texts.length,
    limitName: 'asked',
    fault,
  })
}

/** Each number of the log, found by TensorBoard's reader under its tag. */
async function* sameScalars({ python }: Case, name: string, output: string): AsyncGenerator<Line> {
  const state = join(output, 'trainer_state.json')
  // Each run has a folder of its own there; this output folder has seen one.
  const events = join(output, 'runs', readdirSync(join(output, 'runs'))[0] ?? '')
  const answer = await outputOf(python, [script('tensorboard.py'), events, state])
  const [read] = jsonLines<{ scalars: Record<string, unknown[]>; wrong: string[] }>(answer)
  const found = Object.values(read?.scalars ?? {}).flat().length
  const limit = found + (read?.wrong.length ?? 0)
  const fault = read?.wrong.length === 0 && found > 0 ? null : 'numbers are missing'
  yield figure({ bench, case: name, value: found, unit: 'scalars', limit, limitName: 'of the log', fault })
}

const data = ['--data_path', join(standins, 'rows.json')]

/** The first run: every parameter trained. */
async function* fullRun(world: Case): AsyncGenerator<Line> {
  const output = join(world.folder, 'full')
  const model = ['--model_name_or_path', join(standins, 'bloom'), '--output_dir', output]
  const options = readFileSync(join(runs, 'bloom-german.args'), 'utf8').match(/[^\s"]+/g) ?? []
  const deepspeed = ['--deepspeed', join(runs, 'deepspeed.json'), '--save_strategy', 'no']
  await trained(
    world,
    'the full fine-tuning',
    ...options,
    ...model,
    ...data,
    ...deepspeed,
    '--learning_rate',
    '1e-3',
  )
  yield* compared(world, 'full model in Transformers', { model: output, adapter: null, tokenizer: output })
  yield* sameTokens(world, 'its tokenizer in AutoTokenizer', output)
  yield* sameScalars(world, 'its events in TensorBoard', output)
}

/** The second run: the adapter of a QLoRA, then on the base as it is stored. */
async function* adapterRun(world: Case): AsyncGenerator<Line> {
  const [output, adapter] = [join(world.folder, 'qlora'), join(world.folder, 'adapter')]
  const base = join(standins, 'mpt')
  const model = ['--model_name_or_path', base, '--tokenizer_name', base, '--output_dir', output]
  const felt = ['--learning_rate', '1e-2', '--report_to', 'tensorboard']
  const config = join(runs, 'mpt-30b-qlora.yaml')
  await trained(world, 'the QLoRA', config, ...model, '--adapter_output_dir', adapter, ...data, ...felt)
  yield* compared(world, 'adapter in PEFT', { model: base, adapter, tokenizer: adapter })
  yield* sameTokens(world, 'its tokenizer in AutoTokenizer, with [PAD]', adapter)
  yield* sameScalars(world, 'its events in TensorBoard', output)
}

/** An adapter whose vocabulary grew: the stand-in first loses its pad token, and gets a token for each free row. */
async function* grownRun(world: Case): AsyncGenerator<Line> {
  const [base, output] = [join(world.folder, 'no-pad'), join(world.folder, 'grown')]
  cpSync(join(standins, 'bloom'), base, { recursive: true })
  for (const name of ['tokenizer_config.json', 'special_tokens_map.json']) {
    const { pad_token: _, ...rest } = JSON.parse(readFileSync(join(base, name), 'utf8'))
    written(base, name, rest)
  }
  const { vocab_size: before } = JSON.parse(readFileSync(join(base, 'config.json'), 'utf8'))
  const tokenizer = JSON.parse(readFileSync(join(base, 'tokenizer.json'), 'utf8'))
  for (let id = Object.keys(tokenizer.model.vocab).length; id < before; id++)
    tokenizer.added_tokens.push({ ...tokenizer.added_tokens[0], id, content: `<${id}>` })
  written(base, 'tokenizer.json', tokenizer)
  const model = ['--model_name_or_path', base, '--output_dir', output, '--special_tokens.pad_token', '[PAD]']
  const felt = ['--lora', '--learning_rate', '1e-2', '--num_train_epochs', '1']
  await trained(world, 'an adapter with a new token', ...model, ...data, ...felt)
  const of = { model: base, adapter: output, tokenizer: output, grownTo: before + 1 }
  const [grown] = jsonLines<{ rows: number; tokenizer_rows: number }>(
    await outputOf(world.python, [script('tokens.py'), base, output]),
  )
  const { rows: value = 0, tokenizer_rows: needed = 0 } = grown ?? {}
  const fault = value === of.grownTo && needed === value ? null : `the tokenizer needs ${needed}`
  const name = 'vocabulary that grew, in PEFT'
  yield figure({ bench, case: name, value, unit: 'rows', limit: of.grownTo, limitName: 'of ours', fault })
  yield* compared(world, 'its adapter in PEFT', of)
  yield* sameTokens(world, 'its tokenizer in AutoTokenizer, with [PAD] as a new token', output)
}

/** A model whose tokenizer is a `tokenizer.model` alone: what is left of it, beside the adapter. */
async function* sentencePieceRun(world: Case): AsyncGenerator<Line> {
  const [base, output] = [join(world.folder, 'sentencepiece'), join(world.folder, 'of-sentencepiece')]
  cpSync(join(goldens, 'models', 'llama-bias'), base, { recursive: true })
  cpSync(join(goldens, 'sentencepiece', 'words.model'), join(base, 'tokenizer.model'))
  written(base, 'tokenizer_config.json', { tokenizer_class: 'LlamaTokenizer', pad_token: '<pad>' })
  const model = ['--model_name_or_path', base, '--output_dir', output, '--lora', '--max_steps', '1']
  await trained(world, 'an adapter with a tokenizer.model', ...model, ...data)
  yield* sameTokens(world, 'its tokenizer in AutoTokenizer, from a tokenizer.model', output)
}

/** Ways to keep the weights, each with the script that knows it. */
const packings = [
  ...(['nf4', 'fp4'] as const).flatMap((type) =>
    [false, true].map((double) => ({
      name: `${type} in bitsandbytes, ${double ? 'nested' : 'plain'} maxima`,
      script: 'packed.py',
      quantization: {
        load_in_4bit: true,
        bnb_4bit_quant_type: type,
        bnb_4bit_use_double_quant: double,
      },
    })),
  ),
  { name: 'int8 in bitsandbytes', script: 'packed_int8.py', quantization: { load_in_8bit: true } },
]

/** What `quantize` writes, loaded by Transformers, beside what bitsandbytes makes of the same weights. */
async function* packedRun({ engine, python, folder, log }: Case): AsyncGenerator<Line> {
  const model = join(standins, 'mpt')
  for (const [at, { name, script: of, quantization }] of packings.entries()) {
    log(`interop: weights in ${name}`)
    const output_dir = join(folder, `packed-${at}`)
    const given = { model_name_or_path: model, output_dir, quantization }
    for await (const _ of quantizeWith(engine, resolveValues(given).config)) continue
    const words = [script(of), model, output_dir]
    // `absmax`: how far nested maxima are from those of bitsandbytes.
    const [found] = jsonLines<{ compared: number; equal: number; absmax?: number }>(
      await outputOf(python, words),
    )
    const [value, limit] = [found?.equal ?? 0, found?.compared ?? 0]
    const fault = value === limit && limit > 0 && (found?.absmax ?? 0) < 0.01 ? null : 'they differ'
    yield figure({
      bench,
      case: `weights in ${name}`,
      value,
      unit: 'weights',
      limit,
      limitName: 'written',
      fault,
    })
  }
}

/** Which of the libraries the interpreter lacks. */
const lacking = async (python: string): Promise<string[]> => {
  const names = JSON.stringify(['torch', 'transformers', 'peft', 'bitsandbytes', 'tensorboard'])
  const text = `import importlib.util, json; print(json.dumps({"lacks": [n for n in ${names} if importlib.util.find_spec(n) is None]}))`
  return jsonLines<{ lacks: string[] }>(await outputOf(python, ['-c', text]))[0]?.lacks ?? []
}

async function* run(world: World): AsyncGenerator<Line> {
  const python = pythonOf()
  const lacks = python === null ? [] : await lacking(python)
  if (python === null || lacks.length > 0) {
    const what =
      lacks.length > 0 ? lacks.join(', ') : 'torch, transformers, peft, bitsandbytes and tensorboard'
    const why = python === null ? `PEER_PYTHON names no Python with ${what}` : `${python} has no ${what}`
    return yield { kind: 'skipped', bench, case: 'all', why }
  }
  const folder = mkdtempSync(join(tmpdir(), 'lora-train-interop-'))
  const given: Case = { ...world, python, folder }
  try {
    yield* fullRun(given)
    yield* adapterRun(given)
    yield* grownRun(given)
    yield* sentencePieceRun(given)
    yield* packedRun(given)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

export const interop: Benchmark = {
  name: 'interop',
  summary:
    'what both runs leave, in Transformers, PEFT and TensorBoard, where PEER_PYTHON names a Python with them',
  run,
}
