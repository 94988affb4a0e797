// Command lines that need no engine: help, what is refused, and with which exit status.

import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { commands } from '../../ts/cli/run.js'
import { lastLines, runWords } from './help.js'

test('help names the commands, and each command its options, in groups with defaults', async (t) => {
  const { status, stdout } = await runWords(['--help'])
  t.is(status, 0)
  for (const { name, takes } of commands) {
    t.regex(stdout, new RegExp(`^  ${name} `, 'm'))
    const help = await runWords([name, '--help'])
    t.is(help.status, 0)
    t.regex(help.stdout, new RegExp(`^Usage: lora-train ${name}`))
    t.is(/^Learning rate:\n {2}--learning_rate/m.test(help.stdout), takes === 'config')
    t.is(help.stderr, '')
  }
})

test('the version is that of the package', async (t) => {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
  t.deepEqual(await runWords(['--version']), { status: 0, stdout: `${version}\n`, stderr: '' })
})

test('what is wrong is said in one line and its hint, last, with exit status 2', async (t) => {
  const cases: [string[], string, string][] = [
    [['trian'], "error: unknown command 'trian'", 'hint: Did you mean train?'],
    [['train'], 'error: model_name_or_path is missing', ''],
    [['train', '--model', 'm'], 'error: data_path is missing', ''],
    [['inspect', '--model', 'm'], 'error: data_path is missing', ''],
    [['train', '--model', 'm', '--data_path', 'd'], 'error: output_dir is missing', ''],
    [
      ['train', '--learning_rat', '1'],
      'error: unknown option --learning_rat',
      'hint: Did you mean --learning_rate?',
    ],
    [['doctor', '--jsn'], 'error: unknown option --jsn', 'hint: Did you mean --json?'],
    [['doctor', 'x.yaml'], 'error: "x.yaml" belongs to no option', ''],
    [['generate', '--model', 'm'], 'error: there is nothing to answer', ''],
    [
      ['generate', '--model', 'm', '--prompt', 'a', '--instruction', 'b'],
      'error: --prompt and --instruction are both given',
      '',
    ],
    [['plan', 'none.yaml'], 'error: config file none.yaml does not exist', ''],
    [['plan', '--model', 'm', '--fp16'], 'error: fp16 is not offered: half precision needs loss scaling', ''],
    [
      ['train', '--json', 'perhaps', '--model', 'm'],
      'error: --json is "perhaps"; it takes true or false',
      '',
    ],
  ]
  for (const [words, error, hint] of cases) {
    const { status, stdout, stderr } = await runWords(words)
    t.is(status, 2, words.join(' '))
    t.is(stdout, '')
    const [first, second = ''] = lastLines(stderr, 2)
    t.is(first, error)
    t.true(second.startsWith(hint === '' ? 'hint: ' : hint), second)
    t.is(stderr.split('\n').length, 3, 'nothing but the two lines')
  }
})

test('nothing at all shows the commands', async (t) => {
  const { status, stderr } = await runWords([])
  t.is(status, 2)
  t.regex(stderr, /Commands:/)
})

test('a missing addon is one sentence, exit status 1', async (t) => {
  const { status, stderr } = await runWords(['doctor'])
  t.is(status, 1)
  t.is(stderr, 'error: the native addon is not built\nhint: Build it.\n')
})

test('a mistake of ours is said without a stack trace, exit status 1', async (t) => {
  const { status, stderr } = await runWords(['doctor'], {
    doctor: async () => {
      throw new RangeError('out of range')
    },
  })
  t.is(status, 1)
  t.regex(stderr, /^error: RangeError: out of range\nhint: .*report.*\n$/)
})

test('config prints values with their origin, and what train would refuse', async (t) => {
  const { status, stdout, stderr } = await runWords([
    'config',
    '--model',
    'm',
    '--lr',
    '1e-4',
    '--load_in_4bit',
  ])
  t.is(status, 0)
  t.regex(stdout, /^learning_rate: 0\.0001 {2}# command line, --lr$/m)
  t.regex(stdout, /^max_grad_norm: 1 {2}# default$/m)
  t.regex(stdout, /^quantization:\n {2}load_in_4bit: true {2}# command line, --load_in_4bit$/m)
  t.regex(
    stderr,
    /^Note: train would refuse this: load_in_4bit needs a section lora: weights in 4 bits are not trained$/m,
  )
  const json = JSON.parse((await runWords(['config', '--model', 'm', '--json'])).stdout)
  t.is(json.config.model_name_or_path, 'm')
  t.is(json.origins.model_name_or_path.flag, '--model')
})

test('the program itself ends with the status of the command', async (t) => {
  const main = fileURLToPath(new URL('../../ts/cli/main.ts', import.meta.url))
  const start = (...words: string[]): Promise<{ code: unknown; stdout: string; stderr: string }> =>
    new Promise((ended) => {
      execFile(process.execPath, ['--import=tsx', main, ...words], (error, stdout, stderr) => {
        ended({ code: error?.code ?? 0, stdout, stderr })
      })
    })
  const refused = await start('train', '--learning_rat', '1')
  t.is(refused.code, 2)
  t.is(refused.stderr, 'error: unknown option --learning_rat\nhint: Did you mean --learning_rate?\n')
  const whole = await start('config', '--model', 'm')
  t.is(whole.code, 0)
  t.regex(whole.stdout, /^ {2}unk_token: null {2}# default$/m)
})
