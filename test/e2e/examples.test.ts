// The examples of the two runs: their options are those of the runs, and `plan` says what their READMEs print.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { parse } from 'yaml'
import { shellWords } from '../config/help.js'
import { bloomWords, runs } from '../config/run_words.js'
import { start } from './program.js'

const examples = fileURLToPath(new URL('../../examples', import.meta.url))
const textOf = (...path: string[]): string => readFileSync(join(...path), 'utf8')

test('the examples have the options of the runs', (t) => {
  const script = textOf(examples, 'bloom-german', 'train.sh').replaceAll('\\\n', '')
  const words = shellWords(script.slice(script.indexOf('lora-train train') + 'lora-train train'.length))
  t.deepEqual(words, [...bloomWords(), '$@'])
  const deepspeed = (folder: string): unknown => JSON.parse(textOf(folder, 'deepspeed.json'))
  t.deepEqual(deepspeed(join(examples, 'bloom-german')), deepspeed(runs))
  t.deepEqual(
    parse(textOf(examples, 'mpt-30b-qlora', 'config.yaml')),
    parse(textOf(runs, 'mpt-30b-qlora.yaml')),
  )
})

const prompt = '$ npx lora-train '

for (const name of ['bloom-german', 'mpt-30b-qlora']) {
  test.serial(`plan says what the README of ${name} prints`, async (t) => {
    const blocks = [...textOf(examples, name, 'README.md').matchAll(/```console\n([^]*?)```/g)]
    t.is(blocks.length, 2)
    for (const [, block = ''] of blocks) {
      const [command = '', ...printed] = block.trimEnd().split('\n')
      t.true(command.startsWith(prompt))
      const where = { cwd: join(examples, name), env: { NO_COLOR: '1' } }
      const { status, stdout } = await start(shellWords(command.slice(prompt.length)), where).ended
      t.is(status, printed.includes('  it fits') ? 0 : 5)
      // The time of a step is the machine's, not the run's.
      const said = stdout.trimEnd().split('\n')
      t.deepEqual(
        printed,
        said.filter((line) => !/^ {2}about .* a step$/.test(line)),
      )
    }
  })
}
