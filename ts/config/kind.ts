// What an option accepts, read out of its zod schema, so that coercion, help and messages know no option by name.

import { z } from 'zod'

type Json = Exclude<z.core.JSONSchema.BaseSchema, boolean>

/** One form that a value may have. */
export type Form =
  | { type: 'boolean' }
  | { type: 'number'; whole: boolean; least: Bound; most: Bound }
  | { type: 'word'; values: readonly string[] }
  | { type: 'text' }
  | { type: 'list'; of: Form }
export type Bound = { value: number; included: boolean } | null

/** All forms that an option's value may have, in the order in which they are tried. */
export interface Kind {
  forms: readonly Form[]
  nullable: boolean
  required: boolean
  /** What stands where nothing is given. */
  fallback: unknown
}

/** Reads what `schema` accepts. */
export const kindOf = (schema: z.ZodType): Kind => {
  const json = z.toJSONSchema(schema, { io: 'input' }) as Json
  const alternatives = flat(json)
  return {
    forms: alternatives.filter(({ type }) => type !== 'null').map(formOf),
    nullable: alternatives.some(({ type }) => type === 'null'),
    required: !('default' in json),
    fallback: json.default,
  }
}

/** Alternatives are a tree of anyOf in JSON Schema, whose leaves may name several types at once. */
const flat = (json: Json): Json[] => {
  if (json.anyOf !== undefined) return json.anyOf.flatMap((inner) => flat(inner as Json))
  return Array.isArray(json.type) ? json.type.map((type) => ({ ...json, type }) as Json) : [json]
}

const formOf = (json: Json): Form => {
  if (json.const !== undefined) return { type: 'word', values: [String(json.const)] }
  if (json.enum !== undefined) return { type: 'word', values: json.enum.map(String) }
  switch (json.type) {
    case 'boolean':
      return { type: 'boolean' }
    case 'integer':
    case 'number':
      return {
        type: 'number',
        whole: json.type === 'integer',
        least: bound(json.minimum, json.exclusiveMinimum),
        most: bound(json.maximum, json.exclusiveMaximum),
      }
    case 'array':
      return { type: 'list', of: formOf(json.items as Json) }
    case 'string':
      return { type: 'text' }
    default:
      throw new TypeError(`no form for ${JSON.stringify(json)}`)
  }
}

/** JSON Schema's draft 4 has booleans here; zod writes numbers. */
const bound = (included: number | undefined, excluded: number | boolean | undefined): Bound => {
  if (included !== undefined) return { value: included, included: true }
  return typeof excluded === 'number' ? { value: excluded, included: false } : null
}

/** What may be given, in words: `a whole number from 1 to 4096`. */
export const allowed = ({ forms, nullable }: Kind): string =>
  [...forms.map(formInWords), ...(nullable ? ['null'] : [])].join(' or ')

const formInWords = (form: Form): string => {
  switch (form.type) {
    case 'boolean':
      return 'true or false'
    case 'number':
      return `a ${form.whole ? 'whole ' : ''}number${rangeInWords(form.least, form.most)}`
    case 'word':
      return form.values.length === 1 ? `${form.values[0]}` : `one of ${form.values.join(', ')}`
    case 'text':
      return 'a text'
    case 'list':
      return form.of.type === 'word' ? `a list of ${form.of.values.join(', ')}` : 'a list of texts'
  }
}

const rangeInWords = (least: Bound, most: Bound): string => {
  const from = least === null ? '' : ` ${least.included ? 'from' : 'above'} ${least.value}`
  const to = most === null ? '' : ` ${most.included ? 'to' : 'and below'} ${most.value}`
  return from + to
}

/** What may be given, for the flag in help: `<n>`, `<linear|cosine>`, `<a,b,…>`. */
export const placeholder = ({ forms }: Kind): string => `<${forms.map(formInBrief).join('|')}>`

const formInBrief = (form: Form): string => {
  switch (form.type) {
    case 'boolean':
      return 'true|false'
    case 'number':
      return form.whole ? 'n' : 'x'
    case 'word':
      return form.values.join('|')
    case 'text':
      return 'text'
    case 'list':
      return form.of.type === 'word' ? `${form.of.values.join('|')},…` : 'a,b,…'
  }
}
