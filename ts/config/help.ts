// Every text about options: `--help` and docs/config.md. All of it is derived from the schema; no option is named here.

import { z } from 'zod'
import { allowed, placeholder } from './kind.js'
import { groups } from './meta.js'
import { type Option, Vocabulary } from './names.js'
import { noEffect } from './no_effect.js'
import { ConfigSchema, type SectionName, sections } from './schema.js'

/** Options under one heading. */
interface Heading {
  title: string
  about: string
  options: readonly Option[]
}

/** The headings of the schema: the groups of the top level, then the sections. */
const headings = (): Heading[] => {
  const { options } = new Vocabulary(true)
  const inGroups = groups.map((title) => ({
    title,
    about: '',
    options: options.filter(({ section, meta }) => section === null && meta.group === title),
  }))
  const inSections = (Object.keys(sections) as SectionName[]).map((name) => ({
    title: `Section ${name}`,
    about: z.globalRegistry.get(ConfigSchema.shape[name])?.description ?? '',
    options: options.filter(({ section }) => section === name),
  }))
  return [...inGroups, ...inSections]
}

/** What stands where the option is not given, as text. */
const fallbackText = ({ kind, meta }: Option): string => {
  if (meta.default_text !== undefined) return meta.default_text
  if (kind.required) return 'required'
  const { fallback } = kind
  if (fallback === null || fallback === undefined) return 'none'
  if (Array.isArray(fallback)) return fallback.join(',') || 'none'
  return typeof fallback === 'string' ? fallback.replaceAll('\n', '\\n') : String(fallback)
}

/** A default of several lines of a terminal says less than its beginning. */
const longestDefault = 60
const brief = (text: string): string =>
  text.length > longestDefault ? `${text.slice(0, longestDefault)}…` : text

const helpLines = (options: readonly Option[]): string[] =>
  options.flatMap((option) => [
    `  --${option.id} ${placeholder(option.kind)}`,
    `        ${option.meta.description ?? ''} [${brief(fallbackText(option))}]`,
  ])

/** Help of a command's own options. */
export const ownHelp = (extra: z.ZodObject): string[] => helpLines(new Vocabulary(false, extra).options)

/** Help of all options of the schema, under their headings, with defaults. */
export const configHelp = (): string[] => [
  ...headings().flatMap(({ title, about, options }) => [
    '',
    about === '' ? `${title}:` : `${title}: ${about}`,
    ...helpLines(options),
  ]),
  '',
  "Names take dashes or underscores. Options of a section are dotted, or flat where the name is PEFT's or",
  "bitsandbytes' own (--lora_alpha; r as --lora_r). Options of Transformers that have no effect here are said once.",
]

/** docs/config.md: the same, with ranges, other names and sources, and what is known but without effect. */
export const reference = (): string => {
  const intro = [
    '# Options',
    '',
    'Made from the schema in `ts/config` by `scripts/make-config-reference.ts`; change it there.',
    '',
    'A config file is YAML or JSON. On the command line the same names stand after `--`, with dashes or underscores, and',
    'count before the file. Sections nest in a file and are dotted on the command line (`--lora.r 16`), or flat where the',
    "name is PEFT's or bitsandbytes' own (`--lora_alpha 16`, `--load_in_4bit`; `r` as `--lora_r`). A section `lora`, or any",
    'option of it, makes the run train an adapter; without it all parameters are trained.',
  ]
  const tables = headings().flatMap(({ title, about, options }) => [
    '',
    `## ${title}`,
    '',
    ...(about === '' ? [] : [about, '']),
    '| option | takes | default | what it does | name from | also |',
    '|---|---|---|---|---|---|',
    ...options.map(tableRow),
  ])
  const without = [
    '',
    '## Known, without effect',
    '',
    'Said once when given. Options marked with * are refused at any value but the default.',
    '',
    [...noEffect].map(([id, effect]) => `\`${id}\`${'why' in effect ? '' : '\\*'}`).join(', '),
    '',
  ]
  return [...intro, ...tables, ...without].join('\n')
}

const tableRow = (option: Option): string => {
  const { id, kind, meta } = option
  const also = (meta.aliases ?? []).map((name) => `\`${name}\``).join(', ')
  const cells = [
    `\`${id}\``,
    rangeOf(kind),
    fallbackText(option),
    meta.description ?? '',
    meta.source ?? '',
    also,
  ]
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
}

const rangeOf = (kind: Option['kind']): string => allowed({ ...kind, nullable: false })
