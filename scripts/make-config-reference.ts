// Writes docs/config.md from the schema. `--check` writes nothing and exits with 1 where the file is not up to date.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { reference } from '../ts/config/help.js'

const file = new URL('../docs/config.md', import.meta.url)
const text = reference()

if (process.argv.includes('--check')) {
  if (readFileSync(file, 'utf8') !== text) {
    console.error(
      'docs/config.md is not what the schema says; run `npx tsx scripts/make-config-reference.ts`',
    )
    process.exitCode = 1
  }
} else {
  mkdirSync(new URL('.', file), { recursive: true })
  writeFileSync(file, text)
}
