// Unknown keys of a config file, at every level: each is refused with its place and the name that was meant.

import test from 'ava'
import { sections } from '../../ts/config/index.js'
import { Vocabulary } from '../../ts/config/names.js'
import { exitStatus } from '../../ts/native/errors.js'
import { failure, fileOf, resolve } from './help.js'

const refusal = (t: Parameters<typeof failure>[0], text: string) => {
  const file = fileOf('run.yaml', `model_name_or_path: m\n${text}\n`)
  const { code, message, hint } = failure(t, () => resolve(file))
  t.is(exitStatus(code), 2, text)
  return { message, hint }
}

test('a key that is like no other, at the top and in each section, nested, in a line, and dotted', (t) => {
  const known = (message: string, name: string, line: number): boolean =>
    t.regex(message, new RegExp(`^unknown option ${name} \\(.*run\\.yaml:${line}\\)$`))
  known(refusal(t, 'qqqqqqqqqqqq: 1').message, 'qqqqqqqqqqqq', 2)
  for (const section of Object.keys(sections)) {
    const name = `${section}.qqqqqqqqqqqq`
    known(refusal(t, `${section}:\n  # here\n  qqqqqqqqqqqq: 1`).message, name, 4)
    known(refusal(t, `seed: 1\n${section}: {qqqqqqqqqqqq: 1}`).message, name, 3)
    known(refusal(t, `${name}: 1`).message, name, 2)
  }
})

test('a slip in any name suggests a name, and mostly the right one', (t) => {
  let right = 0
  const { options } = new Vocabulary(true)
  for (const { id, section, key } of options) {
    if (key.length < 4) continue
    const slip = `${key.slice(0, 2)}${key.slice(3)}`
    const { message, hint } = refusal(t, section === null ? `${slip}: 1` : `${section}: {${slip}: 1}`)
    t.true(message.startsWith('unknown option '), message)
    t.regex(hint, /^Did you mean [\w.]+\?$/, id)
    if (hint === `Did you mean ${id}?` || hint === `Did you mean ${key}?`) right += 1
  }
  t.true(right > 0.9 * options.length, `${right} of ${options.length}`)
})

test('a section is no place for the options of another, or of the top', (t) => {
  for (const [text, name] of [
    ['lora: {seed: 1}', 'lora.seed'],
    ['lora: {load_in_4bit: true}', 'lora.load_in_4bit'],
    ['quantization: {r: 1}', 'quantization.r'],
    ['template: {pad_token: a}', 'template.pad_token'],
    ['special_tokens: {prompt_input: a}', 'special_tokens.prompt_input'],
    ['lora: {lora: {r: 1}}', 'lora.lora'],
  ] as const)
    t.true(refusal(t, text).message.startsWith(`unknown option ${name} (`), text)
})
