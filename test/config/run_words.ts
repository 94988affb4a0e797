// The options of the two runs that the project exists for, as words of a command line.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'
import { shellWords } from './help.js'

/** Where the options lie as their authors wrote them. */
export const runs = fileURLToPath(new URL('runs', import.meta.url))

/** The first run, after `train`, word by word. */
export const bloomWords = (): string[] => shellWords(readFileSync(join(runs, 'bloom-german.args'), 'utf8'))

/** The second run as one command line: sections dotted, or flat where the name is PEFT's or bitsandbytes' own. */
export const mptWords = (style: 'dotted' | 'flat'): string[] => {
  const text = readFileSync(join(runs, 'mpt-30b-qlora.yaml'), 'utf8')
  return Object.entries(parse(text) as Record<string, unknown>).flatMap(([name, value]) => {
    if (typeof value !== 'object' || value === null) return [`--${name}`, typed(value)]
    return Object.entries(value).flatMap(([key, inner]) => {
      const flat = style === 'flat' && (name === 'lora' || name === 'quantization')
      return [`--${flat ? (key === 'r' ? 'lora_r' : key) : `${name}.${key}`}`, typed(inner)]
    })
  })
}

/** What one types in a shell's double quotes, where \n stays as it is. */
const typed = (value: unknown): string => String(value).replaceAll('\n', '\\n')
