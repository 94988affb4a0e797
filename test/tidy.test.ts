// What CONTRIBUTING.md asks and a machine can check: headers, lengths, banned words, where `unsafe` may stand.

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import test from 'ava'

const ROOT = resolve(import.meta.dirname, '..')

/** Tracked and new files, without what git ignores. */
const files = spawnSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '-z'], {
  cwd: ROOT,
})
  .stdout.toString()
  .split('\0')
  .filter((path) => path !== '')
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8')
const sources = files.filter((path) => /\.(rs|ts|mjs|py)$/.test(path))

/** Paths for which `wrong` holds; the rule stands in CONTRIBUTING.md. */
const offenders = (paths: string[], wrong: (text: string, path: string) => boolean): string[] =>
  paths.filter((path) => wrong(read(path), path))

test('every source opens with what it is for', (t) => {
  t.true(sources.length > 100)
  const opening = {
    rs: /^(\/\/!|fn main\(\) \{\n\s+napi_build)/,
    ts: /^(#!.*\n)?\/[/*]/,
    mjs: /^\/\//,
    py: /^"""/,
  }
  const wrong = (text: string, path: string): boolean =>
    !opening[path.slice(path.lastIndexOf('.') + 1) as keyof typeof opening].test(text)
  t.deepEqual(offenders(sources, wrong), [])
})

test('no source has more than 400 lines', (t) => {
  t.deepEqual(
    offenders(sources, (text) => text.split('\n').length > 401),
    [],
  )
})

test('nothing is left open, ignored or expected to panic', (t) => {
  const words = [
    'TO' + 'DO',
    'FIX' + 'ME',
    'XX' + 'X',
    'todo' + '!',
    'unimplemented' + '!',
    '#[ig' + 'nore',
    'should_' + 'panic',
  ]
  t.deepEqual(
    offenders(sources, (text) =>
      words.some((word) => new RegExp(`(?<!\\w)${word.replace('[', '\\[')}`).test(text)),
    ),
    [],
  )
})

test('unsafe stands in the kernels and where a file is mapped', (t) => {
  const maps = ['crates/engine/src/formats/mapped.rs', 'crates/engine/src/optimizer/mapped.rs']
  const allowed = (path: string): boolean => path.startsWith('crates/kernels/') || maps.includes(path)
  const rust = files.filter((path) => path.endsWith('.rs') && !allowed(path))
  t.deepEqual(
    offenders(rust, (text) => /\bunsafe\s*(\{|fn|impl|extern)/.test(text)),
    [],
  )
})

test('no file names a path of somebody’s machine', (t) => {
  const texts = files.filter((path) => /\.(rs|ts|mjs|py|md|json|toml|yaml|args)$|^\.ci\//.test(path))
  const paths = new RegExp(['/wo' + 'rk/', '/ro' + 'ot/', '/ho' + 'me/[a-z]', '/o' + 'pt/peer'].join('|'))
  t.deepEqual(
    offenders(texts, (text) => paths.test(text)),
    [],
  )
})
