// `npm start`'s script as a newcomer runs it: the adapter that it trains must answer rows that training never saw.

import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'

const ROOT = resolve(import.meta.dirname, '..', '..')

test('the demo goes from near none to over 90 % of the held-out rows', async (t) => {
  t.timeout(5 * 60_000)
  // As a demo before it would have left it.
  const output = join(ROOT, 'out', 'tiny')
  mkdirSync(output, { recursive: true })
  const state = join(output, 'trainer_state.json')
  if (!existsSync(state)) writeFileSync(state, '{}')
  const { stdout } = await promisify(execFile)(process.execPath, ['--import=tsx', 'scripts/demo.ts'], {
    cwd: ROOT,
    env: { ...process.env, NO_COLOR: '1' }, // a CI counts as a terminal with colours
  })
  const [, before, after] = /all held-out rows\s+(\d+) %\s+→\s+(\d+) %/.exec(stdout) ?? []
  t.true(Number(before) < 10, `before: ${before} %`)
  t.true(Number(after) > 90, `after: ${after} %`)
  t.regex(stdout, /Trainable params: \d+ \|\| all_params: \d+ \|\| trainable%: /)
  t.regex(stdout, /The adapter is in .*tiny/)
})
