// Commands on an engine that is made up: what they ask of it, and what they print.

import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { inspectionLines } from '../../ts/cli/commands/inspect.js'
import type { EngineOptions, Native, Plan, Session, Tokenizer } from '../../ts/native/contract.js'
import { lastLines, runWords } from './help.js'

const planOf = (fits: boolean): Plan => ({
  bytes: { weights: 2 ** 30, adapter: 1e6, gradients: 1e6, optimizer: 2e6, activations: 3e6, scratch: 4e6 },
  peakBytes: 1.1 * 2 ** 30,
  budgetBytes: fits ? 2 ** 31 : 2 ** 29,
  fits,
  mapped: { weights: 0, optimizer: 0 },
  devices: [],
  host: null,
  saved: { result: 40, checkpoint: 44 },
  countedFrom: 'headers',
  vocabSize: 128,
  tiedHead: false,
  recomputedBlocks: 2,
  keepsAttention: true,
  nBlocks: 4,
  trainableParams: 1000,
  allParams: 100_000,
  flopsPerToken: 1e6,
  stepSeconds: 2,
  suggestions: fits ? [] : ['per_device_train_batch_size 1'],
})

/** An engine that answers `plan`, and keeps what it was asked. */
const planning = (fits: boolean): { asked: EngineOptions[]; engine: Partial<Native> } => {
  const asked: EngineOptions[] = []
  const plan = async (json: string) => {
    asked.push(JSON.parse(json))
    return { json: JSON.stringify(planOf(fits)) }
  }
  return { asked, engine: { plan } }
}

test('plan prints the table, and ends with 5 where it does not fit', async (t) => {
  const words = ['plan', '--model', 'm', '--lora_r', '4', '--memory', '512MiB', '--model_max_length', '64']
  const { asked, engine } = planning(true)
  const good = await runWords(words, engine)
  t.is(good.status, 0)
  t.regex(good.stdout, /weights +1\.0 GiB/)
  t.regex(good.stdout, /Trainable params: 1000 \|\| all_params: 100000/)
  t.like(asked[0], {
    model: 'm',
    memoryBytes: 2 ** 29,
    method: { kind: 'lora', r: 4 },
    plan: { seqLength: 64 },
  })

  const bad = await runWords(words, planning(false).engine)
  t.is(bad.status, 5)
  t.regex(bad.stdout, /does not fit/)
  t.deepEqual(lastLines(bad.stderr, 2), [
    'error: the run needs 1.1 GiB of memory and has 512.0 MiB',
    'hint: It would fit with: per_device_train_batch_size 1.',
  ])
  t.is(JSON.parse((await runWords([...words, '--json'], planning(false).engine)).stdout).fits, false)
})

test('plan says that it counts no new token, where one may be added', async (t) => {
  const said = async (...words: string[]): Promise<string[]> => {
    const { stderr } = await runWords(['plan', '--model', 'm', ...words], planning(true).engine)
    return stderr.split('\n').filter((line) => line.includes('no new token is counted'))
  }
  t.is((await said('--special_tokens.pad_token', '[PAD]')).length, 1)
  t.deepEqual(await said(), [])
  // Set for models named llama alone, as in the script that the name is from.
  t.deepEqual(await said('--special_tokens.eos_token', '</s>'), [])
})

test('a failure of the engine keeps its words and gets its exit status', async (t) => {
  const statuses = {
    MODEL_FILES: 4,
    MEMORY: 5,
    DEVICE: 6,
    DIVERGED: 7,
    OUTPUT: 8,
    CANCELLED: 130,
    INTERNAL: 1,
  } as const
  for (const [code, status] of Object.entries(statuses)) {
    const error = { code: code as keyof typeof statuses, message: 'what is wrong', hint: 'What to do.' }
    const ended = await runWords(['plan', '--model', 'm'], { plan: async () => ({ error }) })
    t.deepEqual(ended, { status, stdout: '', stderr: 'error: what is wrong\nhint: What to do.\n' })
  }
})

test('doctor prints each speed beside its limit', async (t) => {
  const report = {
    cpu: 'A processor',
    isas: ['portable', 'avx2'],
    isa: 'avx2',
    threads: 2,
    memoryTotalBytes: 2 ** 34,
    memoryFreeBytes: 2 ** 33,
    peakGflopsF32: 200,
    peakGflopsBf16: 0,
    gemmGflopsF32: 150,
    gemmGflopsBf16: 0,
    copyGbPerS: 12.34,
  }
  const { status, stdout } = await runWords(['doctor'], {
    doctor: async () => ({ json: JSON.stringify(report) }),
  })
  t.is(status, 0)
  t.regex(stdout, /instruction sets +portable, avx2 \(used\)/)
  t.regex(stdout, /memory +8\.0 GiB free of 16\.0 GiB/)
  t.regex(stdout, /matrix products, f32 +150 of 200 GFLOP\/s \(75 %\)/)
  t.regex(stdout, /matrix products, bf16 +0 of 0 GFLOP\/s\n/)
  t.regex(stdout, /copying +12\.3 GB\/s/)
})

/** A tokenizer of bytes: an id is a character's code, the end token is 0. */
const tokenizer = (): Partial<Tokenizer> => ({
  info: () => ({ vocabSize: 256, eosId: 0, hasChatTemplate: true }),
  encodeRows: async (sources, targets, { modelMaxLength }) => {
    const rows = sources.map((source, row) => `${source}${targets[row]}\0`.slice(0, modelMaxLength))
    const offsets = Uint32Array.from([
      0,
      ...rows.map(
        (
          (sum) => (text: string) =>
            (sum += text.length)
        )(0),
      ),
    ])
    const ids = Uint32Array.from([...rows.join('')].map((letter) => letter.charCodeAt(0)))
    const labels = Int32Array.from(
      rows.flatMap((text, row) =>
        [...text].map((letter, at) => (at < (sources[row] ?? '').length ? -100 : letter.charCodeAt(0))),
      ),
    )
    const cut = Uint32Array.from([...rows.keys()].filter((row) => !rows[row]?.endsWith('\0')))
    const unsupervised = cut.filter((row) => (sources[row] ?? '').length >= (rows[row] ?? '').length)
    return { ids, labels, offsets, cut, unsupervised }
  },
  encode: async (text) => Uint32Array.from([...text].map((letter) => letter.charCodeAt(0))),
  decode: async (ids) => ({ text: String.fromCharCode(...ids) }),
  tokenTexts: async (ids) => ({ texts: [...ids].map((id) => String.fromCharCode(id)) }),
  applyChatTemplate: async (json) => ({
    text: `<${JSON.parse(json)
      .map(({ content }: { content: string }) => content)
      .join('|')}>`,
  }),
})
const openTokenizer = async (): Promise<Tokenizer> => tokenizer() as Tokenizer

const rowsFile = (rows: unknown[]): string => {
  const path = join(mkdtempSync(join(tmpdir(), 'lora-train-cli-')), 'rows.json')
  writeFileSync(path, JSON.stringify(rows))
  return path
}

test('inspect shows what is masked, what is supervised, and what is cut', async (t) => {
  const path = rowsFile([
    { instruction: 'ab', input: '', output: 'xy\n\u001b' },
    { instruction: 'abcdefgh', input: '', output: 'x' },
  ])
  const words = ['inspect', '--model', 'm', '--data_path', path, '--model_max_length', '8']
  const template = ['--template.prompt_no_input', '{instruction}:']
  const { status, stdout } = await runWords([...words, ...template, '--rows', '1'], { openTokenizer })
  t.is(status, 0)
  t.deepEqual(stdout.trimEnd().split('\n'), [
    'row 1: 8 tokens, 5 supervised',
    '  masked     a|b|:',
    '  supervised x|y|⏎|␛|␀',
    '',
    `${path}: 2 rows, 16 tokens, 5 of them supervised`,
    '  tokens in a row: 8 to 8, median 8, mean 8.0',
    '  cut by model_max_length: 1 (2)',
    '  without a supervised token: 1 (2)',
  ])
  const json = JSON.parse(
    (await runWords([...words, ...template, '--first', '2', '--json'], { openTokenizer })).stdout,
  )
  t.is(json.shown.length, 1)
  t.like(json.shown[0], { row: 2, cut: true, supervisedTokens: 0 })
})

test('colours stand in place of words', (t) => {
  const segments = [
    { supervised: false, tokens: ['a'] },
    { supervised: true, tokens: ['b'] },
  ]
  const row = { row: 1, length: 2, supervisedTokens: 1, cut: false, segments }
  const numbers = {
    rows: 1,
    tokens: 2,
    supervisedTokens: 1,
    lengthMin: 2,
    lengthMedian: 2,
    lengthMean: 2,
    lengthMax: 2,
  }
  const lines = inspectionLines(
    { path: 'p', ...numbers, cutRows: [], unsupervisedRows: [], shown: [row] },
    true,
  )
  t.true(lines[1]?.includes('\u001b[32m'), 'green')
  t.false(lines[1]?.includes('supervised'))
})

test('generate asks once and closes the session', async (t) => {
  const calls: unknown[] = []
  const session: Partial<Session> = {
    load: async () => ({ json: JSON.stringify({ eosIds: [7, 0, 9] }) }),
    generate: async (ids, json) => {
      calls.push(String.fromCharCode(...ids), JSON.parse(json))
      return { ids: Uint32Array.of(72, 105) }
    },
    cancel: () => undefined,
    close: async () => {
      calls.push('closed')
      return { done: true }
    },
  }
  const openSession = (json: string): Session => {
    calls.push(JSON.parse(json))
    return session as Session
  }
  const engine = { openTokenizer, openSession }
  const base = ['generate', '--model', 'm', '--adapter', 'a', '--do_sample', '--max_new_tokens', '7']
  const { status, stdout } = await runWords(
    [...base, '--prompt', 'say', '--chat', '--system', 'be kind'],
    engine,
  )
  t.is(status, 0)
  t.is(stdout, 'Hi\n')
  t.like(calls[0], {
    model: 'm',
    adapter: 'a',
    method: { kind: 'none' },
    plan: { microBatch: 1, seqLength: 20 },
  })
  t.is(calls[1], '<be kind|say>')
  t.deepEqual(calls[2], {
    maxNewTokens: 7,
    doSample: true,
    temperature: 1,
    topK: 50,
    topP: 1,
    repetitionPenalty: 1,
    seed: 42,
    eosIds: [7, 0, 9],
    adapterEnabled: true,
  })
  t.is(calls[3], 'closed')

  calls.length = 0
  await runWords([...base, '--instruction', 'x', '--template.prompt_no_input', 'I: {instruction}'], engine)
  t.is(calls[1], 'I: x')
  t.is(
    (await runWords([...base, '--instruction', 'x', '--template.prompt_no_input', '{nothing}'], engine))
      .status,
    3,
  )
})
