// Where a value comes from, and how that is said.

import { inspect } from 'node:util'

export type Origin = { from: 'default' } | Given
/** Of a value that someone gave. */
export type Given =
  | FileOrigin
  | DeepspeedOrigin
  | { from: 'command line'; flag: string }
  | { from: 'call'; spelled: string }

export interface FileOrigin {
  from: 'file'
  file: string
  line: number
  spelled: string
}

/** A key of a DeepSpeed file, dotted, that says what an option says. */
export interface DeepspeedOrigin {
  from: 'deepspeed'
  file: string
  line: number
  spelled: string
}

/** One name and value as it was written, before anything is known about it. */
export interface Entry {
  /** Dotted where it stands in a section. */
  name: string
  value: unknown
  origin: Given
}

/** An option and its place, as an error names them: `--seed`, or `seed (run.yaml:3)`. */
export const told = (name: string, origin: Origin): string => {
  switch (origin.from) {
    case 'command line':
      return origin.flag
    case 'file':
    case 'deepspeed':
      return `${origin.spelled} (${origin.file}:${origin.line})`
    case 'call':
      return origin.spelled
    case 'default':
      return name
  }
}

/** The place alone, as `lora-train config` prints it. */
export const place = (origin: Origin): string => {
  switch (origin.from) {
    case 'command line':
      return `command line, ${origin.flag}`
    case 'file':
      return `${origin.file}:${origin.line}`
    case 'deepspeed':
      return `${origin.file}:${origin.line}, ${origin.spelled}`
    case 'call':
      return 'call'
    case 'default':
      return 'default'
  }
}

/** A value as an error shows it: one line, not too long. */
export const shown = (value: unknown): string => {
  const text =
    typeof value === 'string' ? JSON.stringify(value) : inspect(value, { breakLength: Infinity, depth: 2 })
  return text.length > 60 ? `${text.slice(0, 57)}…` : text
}
