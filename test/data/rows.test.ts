// Reading rows and rendering prompts: what is taken, and what is refused, where and how.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { ConfigSchema } from '../../ts/config/index.js'
import { readRows } from '../../ts/data/read_rows.js'
import { renderRows } from '../../ts/data/template.js'
import { exitStatus, LoraTrainError } from '../../ts/native/errors.js'
import { folderOf } from '../folder.js'

const written = (t: ExecutionContext, name: string, content: string | Buffer): string => {
  const path = join(folderOf(t), name)
  writeFileSync(path, content)
  return path
}

/** The error that `run` ends in; fails the test where it ends otherwise. */
const refusal = async (t: ExecutionContext, run: () => unknown): Promise<LoraTrainError> => {
  const error = await t.throwsAsync(async () => run(), { instanceOf: LoraTrainError })
  return error as LoraTrainError
}

const row = { instruction: 'i', input: '', output: 'o' }
const { template } = ConfigSchema.parse({ model_name_or_path: 'm' })

test('JSON, JSON Lines, JSON Lines called .json, and a byte order mark', async (t) => {
  const lines = `${JSON.stringify(row)}\r\n\n${JSON.stringify(row)}\n`
  for (const [name, content] of [
    ['a.json', JSON.stringify([row, row], null, 2)],
    ['a.jsonl', lines],
    ['a.json', lines],
    ['a.JSONL', lines],
    ['a.json', `\ufeff${JSON.stringify([row, row])}`],
    ['a.jsonl', `\ufeff${lines}`],
  ] as const) {
    t.deepEqual(await readRows(written(t, name, content)), [row, row], name)
  }
})

const broken: [name: string, content: string | Buffer, message: RegExp][] = [
  ['a.json', '[\n  {"a": 1},\n  {"a" 2}\n]', /a\.json is not JSON: line 3, column 8: expected :, found "2"/],
  ['a.json', '[{"a": 1}', /line 1, column 10: expected , or \], found the end/],
  ['a.jsonl', '{"a": 1}\n{"a": 1\n', /line 2, column 8: expected , or }, found the end/],
  ['a.jsonl', '{"a": 1}\nhello\n', /line 2, column 1: expected value, found "h"/],
  ['a.json', '', /a\.json holds no row/],
  ['a.json', ' \n', /holds no row/],
  ['a.json', '[]', /holds no row/],
  ['a.jsonl', '\n\n', /holds no row/],
  ['a.json', '{"rows": []}', /holds an object, not an array of rows/],
  ['a.json', '"text"', /holds a string, not an array of rows/],
  ['a.json', '[{}, 3]', /row 2 is a number, not an object/],
  ['a.json', '[{}, {}, null]', /row 3 is null, not an object/],
  ['a.jsonl', '{}\n[1]\n', /row 2 is an array, not an object/],
  ['a.json', Buffer.from([0x5b, 0x0a, 0x22, 0xff, 0x22, 0x5d]), /line 2 is not UTF-8/],
]

broken.forEach(([name, content, message], index) => {
  test(`refused with exit status 3: ${index + 1}, ${message.source}`, async (t) => {
    const error = await refusal(t, () => readRows(written(t, name, content)))
    t.is(exitStatus(error.code), 3)
    t.regex(error.message, message)
    t.notRegex(error.message, /\.$/)
    t.true(error.hint.length > 0)
  })
})

test('a file that is not there, and a folder', async (t) => {
  const folder = folderOf(t)
  const missing = await refusal(t, () => readRows(join(folder, 'no.json')))
  t.is(missing.code, 'DATA')
  t.regex(missing.message, /there is no file .*no\.json/)
  const below = await refusal(t, () => readRows(join(written(t, 'file', 'x'), 'no.json')))
  t.regex(below.message, /there is no file/)
  const directory = await refusal(t, () => readRows(folder))
  t.is(directory.code, 'DATA')
  t.regex(directory.message, /is a folder/)
  if (process.platform === 'win32') return
  const endless = await refusal(t, () => readRows('/dev/zero'))
  t.is(endless.code, 'DATA')
  t.regex(endless.message, /is no regular file/)
})

const head =
  'Below is an instruction that describes a task, paired with an input that provides further context. ' +
  'Write a response that appropriately completes the request.\n\n'
const headWithout =
  'Below is an instruction that describes a task. ' +
  'Write a response that appropriately completes the request.\n\n'

test('the default template is that of Alpaca; an empty or missing input takes the second', (t) => {
  const rows = [
    { instruction: 'Add', input: '1, 2', output: '3' },
    { instruction: 'Greet', input: '', output: 'Hello' },
    { instruction: 'Greet', output: 'Hello' },
    { instruction: 'Greet', input: null, output: 'Hello' },
  ]
  const { sources, targets } = renderRows('rows.json', rows, template)
  t.is(sources[0], `${head}### Instruction:\nAdd\n\n### Input:\n1, 2\n\n### Response:`)
  for (const source of sources.slice(1)) {
    t.is(source, `${headWithout}### Instruction:\nGreet\n\n### Response:`)
  }
  t.deepEqual(targets, ['3', 'Hello', 'Hello', 'Hello'])
})

test('braces in values stay as they are, whatever they name', (t) => {
  const rows = [{ instruction: '{input} {{x}} $& $1', input: '{instruction}', output: '{output}' }]
  const { sources, targets } = renderRows('r', rows, {
    prompt_input: '{instruction}|{input}',
    prompt_no_input: 'x',
  })
  t.deepEqual(sources, ['{input} {{x}} $& $1|{instruction}'])
  t.deepEqual(targets, ['{output}'])
})

test('doubled braces in a template are braces', (t) => {
  const rows = [{ a: '1', output: 'o' }]
  const { sources } = renderRows('r', rows, { prompt_input: 'x', prompt_no_input: '{{"v": {a}}}' })
  t.deepEqual(sources, ['{"v": 1}'])
})

test('a single brace in a template is a fault of the config', async (t) => {
  for (const prompt of ['{', 'a } b', '{}', '{a {b}']) {
    const error = await refusal(t, () =>
      renderRows('r', [row], { prompt_input: 'x', prompt_no_input: prompt }),
    )
    t.is(error.code, 'CONFIG')
    t.regex(error.message, /template\.prompt_no_input has a single "[{}]"/)
  }
})

test('a missing field is named with its row', async (t) => {
  const rows = [row, { instruction: 'i', input: 'x', output: 'o' }, { text: 'i', output: 'o' }]
  const error = await refusal(t, () => renderRows('rows.json', rows, template))
  t.is(error.code, 'DATA')
  t.is(error.message, 'rows.json: row 3 has no field "instruction"')
  t.regex(error.hint, /text, output/)

  const noAnswer = await refusal(t, () => renderRows('rows.json', [row, { instruction: 'i' }], template))
  t.is(noAnswer.message, 'rows.json: row 2 has no field "output"')
})

test('a field that every object inherits is missing all the same', async (t) => {
  const error = await refusal(t, () =>
    renderRows('r', [row], { prompt_input: 'x', prompt_no_input: '{constructor}' }),
  )
  t.regex(error.message, /row 1 has no field "constructor"/)
})

test('a value that is not text is named with its row', async (t) => {
  for (const [value, kind] of [
    [1, 'a number'],
    [true, 'a boolean'],
    [null, 'null'],
    [['x'], 'an array'],
    [{}, 'an object'],
  ]) {
    const error = await refusal(t, () => renderRows('r.json', [row, { ...row, output: value }], template))
    t.is(error.message, `r.json: row 2: field "output" is ${kind}, not text`)
  }
})
