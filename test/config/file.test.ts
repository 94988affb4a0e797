// Config files: what is read, with which origin, and what is refused at which line.

import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import test from 'ava'
import { originLines, resolveValues } from '../../ts/config/index.js'
import { exitStatus } from '../../ts/native/errors.js'
import { failure, fileOf, resolve } from './help.js'

test('values know the line that they come from', (t) => {
  const file = fileOf(
    'run.yaml',
    'model_name_or_path: m\n\nlora:\n  r: 4\n  # a comment\n  lora_alpha: 16\nseed: 7\n',
  )
  const { config, origins } = resolve(file, '--seed', '8')
  t.is(config.lora?.lora_alpha, 16)
  t.deepEqual(origins.get('lora.lora_alpha'), { from: 'file', file, line: 6, spelled: 'lora.lora_alpha' })
  t.deepEqual(origins.get('seed'), { from: 'command line', flag: '--seed' })
  t.is(origins.get('learning_rate'), undefined)
})

test('JSON is read too, and the words of Python in YAML', (t) => {
  t.is(resolve(fileOf('a.json', '{"model_name_or_path": "m", "lora": {"r": 4}}')).config.lora?.r, 4)
  const file = fileOf(
    'a.yaml',
    'model_name_or_path: 123\nbf16: True\nlearning_rate: "2e-5"\nsave_strategy: no\neval_steps: null',
  )
  t.like(resolve(file).config, {
    model_name_or_path: '123',
    bf16: true,
    learning_rate: 2e-5,
    save_strategy: 'no',
  })
  t.is(
    resolve(fileOf('b.json', '{"model_name_or_path": "m", "save_strategy": false}')).config.save_strategy,
    'no',
  )
})

test('~/ is the home folder', (t) => {
  t.is(resolve('--model', '~/m').config.model_name_or_path, join(homedir(), 'm'))
})

test('anchors, dotted names and flat names stand in a file too', (t) => {
  const file = fileOf(
    'a.yaml',
    'model_name_or_path: m\nlora: &l {r: 4}\nlora.lora_alpha: 2\nlora_dropout: 0.5\n',
  )
  t.like(resolve(file).config.lora, { r: 4, lora_alpha: 2, lora_dropout: 0.5 })
})

test('what is no config file is refused with its place', (t) => {
  const folder = dirname(fileOf('a.yaml', ''))
  const cases: [string, RegExp][] = [
    [join(folder, 'none.yaml'), /^config file .*none\.yaml does not exist$/],
    [join(fileOf('file', ''), 'below.yaml'), /does not exist$/],
    [folder, /is a folder$/],
    [fileOf('a.yaml', ''), /is empty$/],
    [fileOf('a.yaml', '# nothing\n'), /is empty$/],
    [fileOf('a.yaml', '- a\n- b\n'), /holds a list, not options$/],
    [fileOf('a.yaml', 'word'), /holds a single value, not options$/],
    [fileOf('a.yaml', 'seed: 1\nlora: {r: 4\nbf16: true\n'), /a\.yaml:\d+:\d+: not YAML: /],
    [fileOf('a.yaml', 'seed: 1\n\tbf16: true\n'), /a\.yaml:2:\d+: not YAML: /],
    [fileOf('a.json', '{"seed": 1,\n "bf16": }}'), /a\.json:2:\d+: not JSON: /],
    [fileOf('a.yaml', 'seed: 1\nseed: 2\n'), /a\.yaml:2:1: a name stands twice$/],
    [fileOf('a.yaml', new Uint8Array([0xff, 0xfe, 0])), /is not UTF-8 text$/],
    [fileOf('a.yaml', 'x'.repeat(2 ** 20 + 1)), /has 1048577 bytes; 1048576 is the limit$/],
    [fileOf('a.yaml', 'model_name_or_path: m\nlora:\n'), /^lora \(.*a\.yaml:2\) is empty$/],
    [fileOf('a.yaml', 'model_name_or_path: m\nlora: 3\n'), /^lora \(.*a\.yaml:2\) is 3; it takes a section/],
    [
      fileOf('a.yaml', 'model_name_or_path: m\nlora: {rank: 3}\n'),
      /^unknown option lora\.rank \(.*a\.yaml:2\)$/,
    ],
    [
      fileOf('a.yaml', 'model_name_or_path: m\nlearning_rate: [1]\n'),
      /^learning_rate \(.*:2\) is \[ 1 \]; it takes a number/,
    ],
    [
      fileOf('a.yaml', 'model_name_or_path: {a: 1}\n'),
      /^model_name_or_path \(.*:1\) is \{ a: 1 \}; it takes a text$/,
    ],
    [
      fileOf('a.yaml', 'eval_strategy: no\nevaluation_strategy: no\n'),
      /^evaluation_strategy \(.*:2\) is the same option as eval_strategy \(.*:1\)$/,
    ],
  ]
  for (const [file, message] of cases) {
    const error = failure(t, () => resolve(file))
    t.regex(error.message, message)
    t.is(exitStatus(error.code), 2)
    t.true(error.hint.length > 0)
  }
})

test('aliases that lead nowhere or to a bomb are refused', (t) => {
  const levels = Array.from({ length: 12 }, (_, n) => {
    const inner = n === 0 ? 'a' : `*x${n - 1}`
    return `x${n}: &x${n} [${Array(10).fill(inner)}]`
  })
  for (const text of [levels.join('\n'), 'seed: *nowhere', 'lora: *nowhere', 'lora: &l {r: *l}']) {
    const { code, message } = failure(t, () => resolve(fileOf('a.yaml', text)))
    t.is(code, 'CONFIG')
    t.regex(message, /a\.yaml:\d+: \S+ cannot be read: /)
  }
})

test('the API takes the same spellings, and names them', (t) => {
  const { config } = resolveValues({
    model: 'm',
    evaluation_strategy: 'no',
    lora: { r: 16, task_type: 'CAUSAL_LM' },
  })
  t.is(config.lora?.r, 16)
  t.is(
    failure(t, () => resolveValues({ model: 'm', lora: { r: 'x' } })).message,
    'lora.r is "x"; it takes a whole number from 1 to 4096',
  )
  t.deepEqual(resolveValues(config).config, config)
})

test('the printed config reads back as the same config', (t) => {
  const resolved = resolve(
    '--model',
    'm',
    '--lora_r',
    '4',
    '--save_strategy',
    'no',
    '--adam_epsilon',
    '1e-9',
    '--target_modules',
    'a,b',
  )
  const lines = originLines(resolved)
  t.true(lines.includes('  r: 4  # command line, --lora_r'))
  t.true(lines.includes('seed: 42  # default'))
  t.deepEqual(resolve(fileOf('again.yaml', lines.join('\n'))).config, resolved.config)
})
