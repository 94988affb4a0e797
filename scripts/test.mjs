// `npm test`: the workspace's Rust tests, then ava's; ends with one line `N passed, N failed, N skipped`.
// `npm test -- rust` or `-- ts` runs one of the two.
import { spawn } from 'node:child_process'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'

const root = resolve(import.meta.dirname ?? '.', '..')
const wanted = process.argv.slice(2)
const total = { passed: 0, failed: 0, skipped: 0 }

/** Runs a command and hands over each line of its output; resolves to its exit status. */
const lines = (command, args, onLine) =>
  new Promise((done) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 2] })
    createInterface({ input: child.stdout }).on('line', onLine)
    child.on('error', () => done(127))
    child.on('close', (status) => done(status ?? 1))
  })

/** cargo prints `test result: ok. 3 passed; 0 failed; …` for each binary; a skipped test says so in a line. */
const rust = async () => {
  let failed = 0
  const status = await lines(
    'cargo',
    ['test', '--release', '--workspace', '--no-fail-fast', '--', '--show-output'],
    (line) => {
      const result = /^test result: \w+\. (\d+) passed; (\d+) failed/.exec(line)
      if (result !== null) {
        total.passed += Number(result[1])
        failed += Number(result[2])
      }
      if (line.startsWith('skipped: ')) total.skipped += 1
      console.log(line)
    },
  )
  total.failed += failed
  if (status !== 0 && failed === 0) total.failed += 1
}

/** TAP: `ok N - title`, `not ok N - title`, `# SKIP` at the end of what didn't run. */
const ts = async () => {
  let failed = 0
  const status = await lines('npx', ['ava', '--tap'], (line) => {
    const result = /^(not )?ok \d+/.exec(line)
    if (result !== null) {
      if (/ # SKIP/.test(line)) total.skipped += 1
      else if (result[1] === undefined) total.passed += 1
      else failed += 1
    }
    if (/^\s*# skipped: /.test(line)) total.skipped += 1
    console.log(line)
  })
  total.failed += failed
  if (status !== 0 && failed === 0) total.failed += 1
}

if (wanted.length === 0 || wanted.includes('rust')) await rust()
if (wanted.length === 0 || wanted.includes('ts')) await ts()
if (total.passed + total.failed === 0) total.failed = 1
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`)
process.exit(total.failed === 0 ? 0 : 1)
