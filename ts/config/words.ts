// Reads the words of a command line into entries and positionals. Knows no option by name: the vocabulary does.

import { LoraTrainError } from '../native/errors.js'
import { isBooleanWord } from './coerce.js'
import type { Meaning, Vocabulary } from './names.js'
import type { Entry } from './origin.js'
import { normalise } from './spelling.js'

/** Whether a word looks like the name of a config file, and so belongs to no option before it. */
export const isConfigFile = (word: string): boolean => /\.(ya?ml|json)$/i.test(word)

/**
 * Returns the options of `words` in their order, and the words that are no option's.
 *
 * `--name value`, `--name=value`, a bare `--name` and `--no_name` for what is true or false, several words for a list.
 * Throws `USAGE` where a name is unknown or a value is missing.
 */
export const readWords = (
  words: readonly string[],
  vocabulary: Vocabulary,
): { entries: Entry[]; rest: string[] } => {
  const entries: Entry[] = []
  const rest: string[] = []
  let at = 0
  while (at < words.length) {
    const word = words[at++] ?? ''
    if (!/^-./.test(word) || /^-\d/.test(word)) {
      rest.push(word)
      continue
    }
    const equals = word.indexOf('=')
    const flag = equals === -1 ? word : word.slice(0, equals)
    const name = flag.replace(/^--?/, '')
    const origin = { from: 'command line' as const, flag }
    const meaning = flag.startsWith('--') ? vocabulary.find(name) : undefined
    if (meaning === undefined) {
      const positive = normalise(name).replace(/^no_/, '')
      if (positive === normalise(name) || equals !== -1 || !isFlag(vocabulary.find(positive)))
        throw unknown(flag, vocabulary)
      entries.push({ name: positive, value: false, origin })
      continue
    }
    if (equals !== -1) {
      entries.push({ name, value: word.slice(equals + 1), origin })
      continue
    }
    const taken = takeValue(meaning, words.slice(at))
    if (taken === undefined)
      throw new LoraTrainError('USAGE', `${flag} needs a value`, `Write ${flag} VALUE.`)
    at += taken.words
    entries.push({ name, value: taken.value, origin })
  }
  return { entries, rest }
}

const isFlag = (meaning: Meaning | undefined): boolean =>
  meaning?.what === 'section' || (meaning?.what === 'option' && meaning.kind.forms[0]?.type === 'boolean')

/** What of `following` belongs to the option; undefined where it needs a value and has none. */
const takeValue = (
  meaning: Meaning,
  following: readonly string[],
): { value: unknown; words: number } | undefined => {
  const next = following[0]
  const end = following.findIndex((word) => word.startsWith('--'))
  const free = end === -1 ? following : following.slice(0, end)
  if (meaning.what === 'section') {
    const takes = next !== undefined && (isBooleanWord(next) || /^(null|none|\{.*)$/is.test(next))
    return takes ? { value: next, words: 1 } : { value: true, words: 0 }
  }
  if (meaning.what === 'no effect') {
    return free[0] === undefined || isConfigFile(free[0])
      ? { value: true, words: 0 }
      : { value: free[0], words: 1 }
  }
  const { forms } = meaning.kind
  if (forms[0]?.type === 'boolean') {
    return free[0] === undefined || isConfigFile(free[0])
      ? { value: true, words: 0 }
      : { value: free[0], words: 1 }
  }
  if (free[0] === undefined) return undefined
  if (!forms.some(({ type }) => type === 'list')) return { value: free[0], words: 1 }
  const stop = free.findIndex((word, index) => index > 0 && isConfigFile(word))
  const list = stop === -1 ? free : free.slice(0, stop)
  return { value: list.join(' '), words: list.length }
}

/** The error of a flag that nothing knows. */
const unknown = (flag: string, vocabulary: Vocabulary): LoraTrainError => {
  const name = vocabulary.nearest(flag.replace(/^-+/, ''))
  return new LoraTrainError(
    'USAGE',
    `unknown option ${flag.length > 60 ? `${flag.slice(0, 57)}…` : flag}`,
    name === undefined ? 'See --help for all options.' : `Did you mean --${name}?`,
  )
}
