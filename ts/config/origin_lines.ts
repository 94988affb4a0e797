// A resolved config as YAML, each value with its origin as a comment. Reading it gives the same config.

import { stringify } from 'yaml'
import { isBooleanWord } from './coerce.js'
import { type Origin, place } from './origin.js'
import type { Resolved } from './resolve.js'

/** One line per option; those of a section are indented under it. */
export const originLines = ({ config, origins }: Resolved): string[] =>
  Object.entries(config).flatMap(([name, value]) => {
    if (!isSection(value)) return [line('', name, value, origins.get(name))]
    const inner = Object.entries(value).map(([key, option]) =>
      line('  ', key, option, origins.get(`${name}.${key}`)),
    )
    return [`${name}:`, ...inner]
  })

const isSection = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const line = (indent: string, name: string, value: unknown, origin: Origin | undefined): string => {
  const flow = { collectionStyle: 'flow', defaultStringType: 'PLAIN', lineWidth: 0 } as const
  // Line breaks in a block scalar would leave no place for the comment; a bare `no` is false to YAML 1.1.
  const quoted = typeof value === 'string' && (value.includes('\n') || isBooleanWord(value))
  const text = quoted ? JSON.stringify(value) : stringify(value, flow).trimEnd()
  return `${indent}${name}: ${text}  # ${place(origin ?? { from: 'default' })}`
}
