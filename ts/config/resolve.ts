// Merges defaults, config file and command line into one checked config that knows where each value came from.
// The command line stands over the file, the file over the defaults. Prints nothing.

import { homedir } from 'node:os'
import { join } from 'node:path'
import type { z } from 'zod'
import { LoraTrainError } from '../native/errors.js'
import { coerce, isNull } from './coerce.js'
import {
  contradiction,
  deepspeedEntries,
  deepspeedNotices,
  deepspeedTotals,
  type Known,
} from './deepspeed.js'
import { readDeepspeedFile } from './deepspeed_file.js'
import { readConfigFile } from './file.js'
import { allowed } from './kind.js'
import { type Meaning, type Option, Vocabulary } from './names.js'
import { type Entry, type Given, shown, told } from './origin.js'
import { type Config, ConfigSchema, type SectionName } from './schema.js'
import { isConfigFile, readWords } from './words.js'

/** A config, and what is known about how it came to be. */
export interface Resolved {
  config: Config
  /** By full name; what is not here is at its default. */
  origins: ReadonlyMap<string, Given>
  /** Options that were given, are known, and change nothing here. */
  ignored: readonly { id: string; origin: Given; why: string }[]
  /** Sentences about the DeepSpeed file. */
  said: readonly string[]
}

/** Values by full name, and the sections that are on. */
interface Merged {
  given: Map<string, { option: Option; value: unknown; origin: Given }>
  sections: Map<SectionName, Given>
  ignored: Map<string, { id: string; origin: Given; why: string }>
  said: string[]
}

/**
 * Returns the config of a command line: options, and the name of at most one config file among them.
 *
 * `extra` is what the command takes beside the config. Throws `USAGE` or `CONFIG`.
 */
export const resolveWords = <Extra extends z.ZodObject>(
  words: readonly string[],
  extra: Extra,
): Resolved & { extra: z.output<Extra> } => {
  const vocabulary = new Vocabulary(true, extra)
  const { entries, rest } = readWords(words, vocabulary)
  if (rest.length > 1) throw tooMany(rest.find((word) => !isConfigFile(word)) ?? rest[1] ?? '')
  const merged = newMerged()
  if (rest[0] !== undefined) mergeOnce(merged, readConfigFile(expandHome(rest[0])), vocabulary)
  for (const entry of entries) merge(merged, entry, vocabulary)
  mergeDeepspeed(merged, vocabulary)
  const own = new Set(Object.keys(extra.shape))
  return { ...finish(merged, own), extra: checkOwn(merged, own, extra) }
}

/** Returns the options of a command that takes no config. */
export const resolveOwn = <Extra extends z.ZodObject>(
  words: readonly string[],
  extra: Extra,
): z.output<Extra> => {
  const vocabulary = new Vocabulary(false, extra)
  const { entries, rest } = readWords(words, vocabulary)
  if (rest[0] !== undefined) throw tooMany(rest[0])
  const merged = newMerged()
  for (const entry of entries) merge(merged, entry, vocabulary)
  return checkOwn(merged, new Set(Object.keys(extra.shape)), extra)
}

/**
 * Returns the config of a plain object, in any spelling that a file may have.
 *
 * @example
 * resolveValues({ model_name_or_path: './m', evaluation_strategy: 'no', lora: { r: 16 } }).config.lora?.r // 16
 */
export const resolveValues = (values: Readonly<Record<string, unknown>>): Resolved => {
  const vocabulary = new Vocabulary(true)
  const merged = newMerged()
  const entries = Object.entries(values).flatMap(([name, value]): Entry[] => {
    const entry = { name, value, origin: { from: 'call' as const, spelled: name } }
    const meaning = vocabulary.find(name)
    return meaning?.what === 'section' ? sectionEntries(entry, meaning.id) : [entry]
  })
  mergeOnce(merged, entries, vocabulary)
  mergeDeepspeed(merged, vocabulary)
  return finish(merged, new Set())
}

const newMerged = (): Merged => ({ given: new Map(), sections: new Map(), ignored: new Map(), said: [] })

/** Merges what must not name an option twice, under whatever spellings. */
const mergeOnce = (merged: Merged, entries: readonly Entry[], vocabulary: Vocabulary): void => {
  const before = new Map<string, Given>()
  for (const entry of entries) {
    const meaning = vocabulary.find(entry.name)
    const first = meaning === undefined ? undefined : before.get(meaning.id)
    if (meaning?.what === 'option' && first !== undefined) {
      throw new LoraTrainError(
        'CONFIG',
        `${told(entry.name, entry.origin)} is the same option as ${told(entry.name, first)}`,
        'Keep one of the two.',
      )
    }
    if (meaning !== undefined) before.set(meaning.id, entry.origin)
    merge(merged, entry, vocabulary)
  }
}

/** Adds one entry; a later one stands over an earlier one. */
const merge = (merged: Merged, entry: Entry, vocabulary: Vocabulary): void => {
  const meaning = vocabulary.find(entry.name)
  if (meaning === undefined) throw unknownName(entry, vocabulary)
  if (meaning.what === 'no effect') {
    noteIgnored(merged, meaning, entry)
  } else if (meaning.what === 'section') {
    const [whole, ...inner] = sectionEntries(entry, meaning.id)
    switchSection(merged, meaning.id, whole)
    for (const option of inner) merge(merged, option, vocabulary)
  } else {
    const { section, kind, meta, id } = meaning
    if (section !== null && !merged.sections.has(section)) merged.sections.set(section, entry.origin)
    const value = isNull(kind, entry.value)
      ? (kind.fallback ?? null)
      : adjust(meaning, coerce(kind, entry.value, meta.value_aliases), entry.origin)
    merged.given.set(id, { option: meaning, value, origin: entry.origin })
  }
}

/** Adds what the DeepSpeed file says: below the command line and the config file, which it must not contradict. */
const mergeDeepspeed = (merged: Merged, vocabulary: Vocabulary): void => {
  const path = merged.given.get('deepspeed')?.value
  if (typeof path !== 'string') return
  const file = readDeepspeedFile(path)
  for (const entry of deepspeedEntries(file)) mergeAgreeing(merged, entry, vocabulary)
  const known = (name: string): Known => {
    const { value, origin } = merged.given.get(name) ?? { value: fallbackOf(vocabulary, name) }
    return origin === undefined ? { value } : { value, origin }
  }
  for (const entry of deepspeedTotals(file, known)) mergeAgreeing(merged, entry, vocabulary)
  const clips = known('max_grad_norm')
  merged.said.push(...deepspeedNotices(file, clips.origin === undefined ? Number(clips.value) : null))
}

const fallbackOf = (vocabulary: Vocabulary, name: string): unknown => {
  const meaning = vocabulary.find(name)
  return meaning?.what === 'option' ? meaning.kind.fallback : undefined
}

/** Adds one entry where nothing is given yet, and lets nothing else be given. */
const mergeAgreeing = (merged: Merged, entry: Entry, vocabulary: Vocabulary): void => {
  const apart = newMerged()
  merge(apart, entry, vocabulary)
  for (const [id, found] of apart.given) {
    const given = merged.given.get(id)
    if (given === undefined) merged.given.set(id, found)
    else if (given.value !== found.value) throw contradiction({ ...entry, value: found.value }, id, given)
  }
}

/** `lora: {r: 8}` and `--lora '{"r": 8}'` are the section, then its options. */
const sectionEntries = (entry: Entry, id: SectionName): [Entry, ...Entry[]] => {
  let { value } = entry
  if (typeof value === 'string' && value.trim().startsWith('{')) {
    try {
      value = JSON.parse(value)
    } catch {
      throw new LoraTrainError(
        'USAGE',
        `${told(entry.name, entry.origin)} is ${shown(value)}, which is not JSON`,
        `Write the options one by one, as --${entry.name}.NAME VALUE.`,
      )
    }
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [{ ...entry, value }]
  const inner = Object.entries(value).map(([key, innerValue]): Entry => {
    const name = `${id}.${key}`
    return { name, value: innerValue, origin: within(entry.origin, name) }
  })
  return [{ ...entry, value: true }, ...inner]
}

/** The origin of an option that was given inside its section. */
const within = (origin: Given, name: string): Given =>
  origin.from === 'command line' ? { ...origin, flag: `--${name}` } : { ...origin, spelled: name }

const switchSection = (merged: Merged, id: SectionName, { name, value, origin }: Entry): void => {
  const on = value === null || /^(null|none)$/i.test(String(value)) ? false : coerce(flagKind, value)
  if (typeof on !== 'boolean') {
    throw new LoraTrainError(
      origin.from === 'command line' ? 'USAGE' : 'CONFIG',
      `${told(name, origin)} is ${shown(value)}; it takes a section of options, true or false`,
      `Write the options of ${id} one by one, as ${id}.NAME.`,
    )
  }
  if (on) {
    if (!merged.sections.has(id)) merged.sections.set(id, origin)
    return
  }
  merged.sections.delete(id)
  for (const [key, { option }] of merged.given) if (option.section === id) merged.given.delete(key)
}

const flagKind = { forms: [{ type: 'boolean' as const }], nullable: false, required: false, fallback: false }

const noteIgnored = (
  merged: Merged,
  meaning: Extract<Meaning, { what: 'no effect' }>,
  entry: Entry,
): void => {
  const { id, effect } = meaning
  if ('why' in effect) {
    merged.ignored.set(id, { id, origin: entry.origin, why: effect.why })
  } else if (!effect.neutral.some((neutral) => sameValue(neutral, entry.value))) {
    throw new LoraTrainError(
      entry.origin.from === 'command line' ? 'USAGE' : 'CONFIG',
      `${told(entry.name, entry.origin)} is ${shown(entry.value)}, which is not offered`,
      effect.hint,
    )
  }
}

/** `False`, `false` and false are the same here; so are 0 and `0.0`, null and `none`. */
const sameValue = (neutral: unknown, value: unknown): boolean => {
  if (typeof neutral === 'boolean') return coerce(flagKind, value) === neutral
  if (neutral === null) return value === null || /^(null|none)?$/i.test(String(value))
  if (typeof neutral === 'number') return value !== '' && value !== null && Number(value) === neutral
  return JSON.stringify(neutral) === (typeof value === 'string' ? value : JSON.stringify(value))
}

/** What a shell would have done: ~/ in paths; and what it does not do: \n in templates. */
const adjust = ({ meta }: Option, value: unknown, origin: Given): unknown => {
  if (typeof value !== 'string') return value
  if (meta.path === true) return expandHome(value)
  if (meta.escapes !== true || origin.from !== 'command line') return value
  return value.replace(/\\([nt\\])/g, (_, letter) => (letter === 'n' ? '\n' : letter === 't' ? '\t' : '\\'))
}

const expandHome = (path: string): string =>
  path === '~' || path.startsWith('~/') ? join(homedir(), path.slice(1)) : path

/** Puts the merged values into the schema's shape and has it check them. */
const finish = (merged: Merged, own: ReadonlySet<string>): Resolved => {
  const input: Record<string, unknown> = {}
  for (const id of merged.sections.keys()) input[id] = {}
  const origins = new Map<string, Given>()
  for (const [id, { option, value, origin }] of merged.given) {
    if (option.section === null && own.has(id)) continue
    origins.set(id, origin)
    if (option.section === null) input[option.key] = value
    else (input[option.section] as Record<string, unknown>)[option.key] = value
  }
  for (const [id, origin] of merged.sections) origins.set(id, origin)
  const result = ConfigSchema.safeParse(input)
  if (!result.success) throw refusal(result.error, merged)
  return { config: result.data, origins, ignored: [...merged.ignored.values()], said: merged.said }
}

const checkOwn = <Extra extends z.ZodObject>(
  merged: Merged,
  own: ReadonlySet<string>,
  extra: Extra,
): z.output<Extra> => {
  const given = [...merged.given].filter(([id]) => own.has(id)).map(([id, { value }]) => [id, value])
  const result = extra.safeParse(Object.fromEntries(given))
  if (!result.success) throw refusal(result.error, merged)
  return result.data
}

/** The first thing that the schema has against the values, in the words of whoever gave them. */
const refusal = (error: z.ZodError, { given }: Merged): LoraTrainError => {
  const issue = deepest(error.issues[0])
  const path = issue?.path.filter((part) => typeof part === 'string').join('.') ?? ''
  const found = given.get(path)
  if (issue === undefined || found === undefined) return missing(path)
  const { option, value, origin } = found
  const index = issue.path.find((part) => typeof part === 'number')
  const at = index === undefined ? value : (value as unknown[])[index as number]
  const lacksItems = issue.code === 'too_small' && Array.isArray(at)
  const takes =
    issue.code === 'invalid_format'
      ? issue.message
      : `${allowed(option.kind)}${lacksItems ? ', of at least one item' : ''}`
  return new LoraTrainError(
    origin.from === 'command line' ? 'USAGE' : 'CONFIG',
    `${told(path, origin)} is ${shown(at)}; it takes ${takes}`,
    `${option.meta.description ?? ''}`,
  )
}

/** Of a union's issues, a text that breaks its own pattern says more than the list of all forms. */
const deepest = (issue: z.core.$ZodIssue | undefined): z.core.$ZodIssue | undefined => {
  if (issue?.code !== 'invalid_union') return issue
  const inner = issue.errors
    .flat()
    .map(deepest)
    .find((candidate) => candidate?.code === 'invalid_format')
  return inner === undefined ? issue : { ...inner, path: [...issue.path, ...inner.path] }
}

/** The error of an option that nothing works without. */
export const missing = (name: string): LoraTrainError =>
  new LoraTrainError(
    'CONFIG',
    `${name} is missing`,
    `Give --${name} VALUE, or ${name}: VALUE in the config file.`,
  )

const unknownName = ({ name, origin }: Entry, vocabulary: Vocabulary): LoraTrainError => {
  const known = vocabulary.nearest(name)
  return new LoraTrainError(
    origin.from === 'command line' ? 'USAGE' : 'CONFIG',
    `unknown option ${told(name, origin)}`,
    known === undefined ? 'See `lora-train train --help` for all options.' : `Did you mean ${known}?`,
  )
}

const tooMany = (word: string): LoraTrainError =>
  new LoraTrainError(
    'USAGE',
    `${shown(word)} belongs to no option`,
    'Options start with --, such as --data_path rows.json.',
  )
