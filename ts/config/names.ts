// Every spelling of every option, and what it means. Dashes and underscores are the same.

import { z } from 'zod'
import { type Kind, kindOf } from './kind.js'
import { nearest } from './nearest.js'
import { type NoEffect, noEffect } from './no_effect.js'
import { type SectionName, sections, topLevel } from './schema.js'
import { normalise } from './spelling.js'

export interface Option {
  what: 'option'
  /** `learning_rate`, `lora.r`. */
  id: string
  section: SectionName | null
  key: string
  schema: z.ZodType
  kind: Kind
  meta: z.GlobalMeta
}
/** What a name means. */
export type Meaning =
  | Option
  | { what: 'section'; id: SectionName }
  | { what: 'no effect'; id: string; effect: NoEffect }

/** The sections whose option names are a library's own, and so stand without the section's name too. */
const flatSections: ReadonlySet<string> = new Set(['lora', 'quantization'] satisfies SectionName[])
/** One letter says too little on a command line; its other spelling is `lora_r`. */
const neverFlat: ReadonlySet<string> = new Set(['lora.r'])
/** Names under which other trainers turn the adapter on. */
const sectionAliases: Readonly<Record<string, SectionName>> = { use_lora: 'lora', use_peft: 'lora' }

/** The names that a command knows. */
export class Vocabulary {
  readonly options: readonly Option[]
  readonly #meanings = new Map<string, Meaning>()

  /**
   * `takesConfig`: whether the options of the schema are known; `extra`: the command's own options.
   *
   * Throws `TypeError` where two options share a name, which is a mistake of ours.
   */
  constructor(takesConfig: boolean, extra: z.ZodObject = z.strictObject({})) {
    const options = takesConfig ? schemaOptions() : []
    options.push(
      ...Object.entries(extra.shape).map(([key, schema]) => option(null, key, schema as z.ZodType)),
    )
    this.options = options
    for (const known of options) for (const name of spellings(known)) this.#add(name, known)
    if (!takesConfig) return
    for (const id of Object.keys(sections) as SectionName[]) this.#add(id, { what: 'section', id })
    for (const [name, id] of Object.entries(sectionAliases)) this.#add(name, { what: 'section', id })
    for (const [id, effect] of noEffect) {
      const meaning = { what: 'no effect' as const, id, effect }
      for (const name of flatAndDotted(id)) this.#add(name, meaning)
    }
  }

  #add(name: string, meaning: Meaning): void {
    if (this.#meanings.has(name)) throw new TypeError(`two options are called ${name}`)
    this.#meanings.set(name, meaning)
  }

  /** What `name` means, in any spelling. */
  find(name: string): Meaning | undefined {
    return this.#meanings.get(normalise(name))
  }

  /** The known name that `name` was most likely meant to be. */
  nearest(name: string): string | undefined {
    return nearest(
      normalise(name),
      [...this.#meanings.keys()],
      this.options.map(({ id }) => id),
    )
  }
}

const schemaOptions = (): Option[] => [
  ...Object.entries(topLevel).map(([key, schema]) => option(null, key, schema)),
  ...Object.entries(sections).flatMap(([section, { shape }]) =>
    Object.entries(shape).map(([key, schema]) => option(section as SectionName, key, schema)),
  ),
]

const option = (section: SectionName | null, key: string, schema: z.ZodType): Option => ({
  what: 'option',
  id: section === null ? key : `${section}.${key}`,
  section,
  key,
  schema,
  kind: kindOf(schema),
  meta: z.globalRegistry.get(schema) ?? {},
})

const spellings = ({ id, meta }: Option): string[] => [...flatAndDotted(id), ...(meta.aliases ?? [])]

const flatAndDotted = (id: string): string[] => {
  const [section = '', key] = id.split('.')
  return key !== undefined && flatSections.has(section) && !neverFlat.has(id) ? [id, key] : [id]
}
