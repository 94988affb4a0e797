// The harness of tests with wrong input: a sound run that a case makes wrong, refused with one message that helps, its
// exit status, and nothing left behind.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { native } from '../../ts/native/index.js'
import { runWords } from '../cli/help.js'
import { folderOf } from '../folder.js'
import { rows, shortTemplate, writeGoldenModel } from './model.js'

/** What the engine has to do for a refusal takes milliseconds; the rest is for a machine that others use too. */
export const wallMsMax = 10_000

/** A sound run in a folder of its own: what a case makes wrong. */
export interface Place {
  folder: string
  model: string
  data: string
  words: string[]
}

export const placeOf = (t: ExecutionContext): Place => {
  const folder = folderOf(t)
  const model = writeGoldenModel(join(folder, 'model'))
  const data = join(folder, 'rows.json')
  writeFileSync(data, JSON.stringify(rows(8)))
  const words = ['train', '--model_name_or_path', model, '--data_path', data, '--lora', '--max_steps', '1']
  const template = Object.entries(shortTemplate).flatMap(([name, text]) => [`--template.${name}`, text])
  return { folder, model, data, words: [...words, '--output_dir', join(folder, 'out'), ...template] }
}

/** Files and folders below `folder`, by name. */
const below = (folder: string): string[] => (readdirSync(folder, { recursive: true }) as string[]).sort()

/** Changes one run, and says with which further words it goes wrong. */
export type Wrong = (place: Place) => string[]

/**
 * Declares the test of one kind of wrong input: its exit status, and facts that the message or its hint names.
 * `sound` is the run that goes wrong.
 */
export const refused = (
  title: string,
  status: number,
  facts: RegExp[],
  wrong: Wrong,
  sound: (t: ExecutionContext) => Place = placeOf,
): void => {
  // One after another: side by side, each would wait for the others' time.
  test.serial(title, async (t) => {
    const place = sound(t)
    const words = [...place.words, ...wrong(place)]
    const before = below(place.folder)
    const started = performance.now()
    const ended = await runWords(words, await native())
    t.true(performance.now() - started < wallMsMax)
    t.is(ended.status, status, ended.stderr)
    t.regex(ended.stderr, /^(Note: [^\n]+\n)*error: [^\n]+\nhint: [^\n]+\n$/, 'one message, and no stack')
    for (const fact of facts) t.regex(ended.stderr, fact)
    t.deepEqual(below(place.folder), before, 'nothing is left behind')
  })
}

/** The same JSON file with other values under some keys. */
export const edit = (path: string, change: (value: Record<string, unknown>) => void): void => {
  const value = JSON.parse(readFileSync(path, 'utf8'))
  change(value)
  writeFileSync(path, JSON.stringify(value))
}

/** Other rows, and further words. */
export const withData =
  (name: string, text: string, ...more: string[]): Wrong =>
  ({ folder }) => {
    const path = join(folder, name)
    writeFileSync(path, text)
    return ['--data_path', path, ...more]
  }
