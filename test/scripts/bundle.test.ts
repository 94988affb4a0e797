// The program as it is installed: bundled, it finds the addon, its version, and what it imports on demand.

import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'

const ROOT = resolve(import.meta.dirname, '..', '..')
const CLI = join(ROOT, 'dist', 'cli')
const MODEL = join(ROOT, 'examples', 'tiny', 'model')

const node = (words: string[]) =>
  promisify(execFile)(process.execPath, words, {
    cwd: ROOT,
    env: { ...process.env, NO_COLOR: '1', HF_HUB_OFFLINE: '1', HF_HUB_CACHE: join(CLI, 'no-cache') },
  })

test('the bundle does what the sources do', async (t) => {
  t.timeout(60_000)
  await node([join('scripts', 'bundle.mjs')])
  const program = (...words: string[]) => node([join(CLI, 'main.js'), ...words])

  const { version, dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  t.is((await program('--version')).stdout, `${version}\n`)
  t.regex((await program('plan', '--model_name_or_path', MODEL, '--lora')).stdout, /it fits/)
  await t.throwsAsync(program('plan', '--model_name_or_path', 'some/model'), {
    message: /some\/model is not whole in the hub's cache/,
  })

  const licenses = readFileSync(join(CLI, 'LICENSES.txt'), 'utf8')
  // The report's library is read from its own package.
  const bundled = Object.keys(dependencies).filter((name) => name !== 'uplot')
  for (const name of bundled) t.regex(licenses, new RegExp(`^${name} \\d`, 'm'))
})
