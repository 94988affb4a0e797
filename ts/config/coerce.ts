// From what people write (`True`, "no", null, 2e-5, a,b) to the value that an option's schema checks.
// Guided by the option's kind alone; a value that fits no form is handed on as it is, for the schema to refuse.

import type { Form, Kind } from './kind.js'

const TRUE = /^(true|yes|on|y|t|1)$/i
const FALSE = /^(false|no|off|n|f|0)$/i
const NULL = /^(null|none|~|)$/i
const NUMBER = /^[+-]?(\d[\d_]*(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i

/** Whether a bare flag may take this word as its value. */
export const isBooleanWord = (word: string): boolean => TRUE.test(word) || FALSE.test(word)

/** Returns `value` in the first form of `kind` that it can have. */
export const coerce = (
  kind: Kind,
  value: unknown,
  aliases: Readonly<Record<string, string>> = {},
): unknown => {
  for (const form of kind.forms) {
    const found = inForm(form, value, aliases)
    if (found !== undefined) return found
  }
  return value
}

/** Whether `value` stands for "nothing", where the option can have nothing or where nothing is its default. */
export const isNull = ({ forms, nullable }: Kind, value: unknown): boolean => {
  if (value === null) return true
  if (typeof value !== 'string' || !NULL.test(value.trim())) return false
  // No item is not nothing: a list that lost its items, as by a variable that is not set, is for the schema to refuse.
  if (value.trim() === '' && forms.some(({ type }) => type === 'list')) return false
  // A word of its own ("none" of `bias`) is a value, and so is any text where there must be one.
  return !forms.some((form) => {
    if (form.type === 'text') return !nullable
    const words = form.type === 'list' ? form.of : form
    return words.type === 'word' && words.values.includes(value)
  })
}

const inForm = (form: Form, value: unknown, aliases: Readonly<Record<string, string>>): unknown => {
  switch (form.type) {
    case 'boolean':
      return asBoolean(value)
    case 'number':
      return asNumber(value)
    case 'word':
      return asWord(form.values, value, aliases)
    case 'text':
      // A model named 123 or a folder named true is read as a number by YAML; its text is what was meant.
      return typeof value === 'object' ? undefined : String(value)
    case 'list':
      return asList(form.of, value, aliases)
  }
}

const asBoolean = (value: unknown): boolean | undefined => {
  if (typeof value === 'boolean') return value
  if (typeof value !== 'string' && typeof value !== 'number') return undefined
  if (TRUE.test(String(value))) return true
  return FALSE.test(String(value)) ? false : undefined
}

const asNumber = (value: unknown): number | undefined => {
  if (typeof value === 'number') return value
  if (typeof value !== 'string' || !NUMBER.test(value.trim())) return undefined
  return Number(value.trim().replaceAll('_', ''))
}

const asWord = (
  values: readonly string[],
  value: unknown,
  aliases: Readonly<Record<string, string>>,
): string | undefined => {
  // `no` without quotes is false to YAML 1.1 and to JSON writers that follow it.
  if (value === false && values.includes('no')) return 'no'
  if (typeof value !== 'string') return undefined
  const word = aliases[value] ?? value
  return values.find((known) => known === word) ?? values.find((known) => known === word.toLowerCase())
}

const asList = (
  of: Form,
  value: unknown,
  aliases: Readonly<Record<string, string>>,
): unknown[] | undefined => {
  const parts = Array.isArray(value) ? value : typeof value === 'string' ? splitList(value) : [value]
  if (parts.some((part) => typeof part === 'object')) return undefined
  // Nor is one that lost an item among others: the schema names what it takes.
  if (typeof value === 'string' && /,\s*,/.test(value)) return value.split(',').map((part) => part.trim())
  return parts.map((part) => inForm(of, part, aliases) ?? part)
}

/** `a,b`, `a b`, `["a", "b"]` and `[a, b]` are the same list. */
const splitList = (text: string): string[] =>
  text
    .trim()
    .replace(/^\[(.*)\]$/s, '$1')
    .split(/[\s,]+/)
    .map((part) => part.replace(/^(['"])(.*)\1$/, '$2'))
    .filter((part) => part !== '')
