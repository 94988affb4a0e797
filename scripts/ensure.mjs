// Makes a checkout ready: packages, then the native addon where it is missing or older than its sources.
// Plain JavaScript without packages, since it runs before there are any.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname ?? '.', '..')

/** Ends the process with one sentence and what to do. */
const fail = (message, hint, status) => {
  console.error(`lora-train: ${message}\n  ${hint}`)
  process.exit(status)
}

const run = (command, args) => {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2] })
  if (error !== undefined || status !== 0) {
    fail(`\`${[command, ...args].join(' ')}\` failed`, 'The lines above say why.', 1)
  }
}

/** The time of the newest file below `path`, in milliseconds; 0 where there is none. */
const newest = (path) => {
  if (!existsSync(path)) return 0
  const stat = statSync(path)
  if (!stat.isDirectory()) return stat.mtimeMs
  return Math.max(0, ...readdirSync(path).map((name) => newest(join(path, name))))
}

const [major] = process.versions.node.split('.').map(Number)
if (major < 20) fail(`Node ${process.versions.node} is too old`, 'Install Node 20 or newer.', 2)

const marker = join(root, 'node_modules', '.package-lock.json')
if (newest(marker) < newest(join(root, 'package-lock.json'))) {
  console.error('Installing packages …')
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'])
}

const native = join(root, 'ts', 'native')
const addons = existsSync(native) ? readdirSync(native).filter((name) => name.endsWith('.node')) : []
const built = Math.max(0, ...addons.map((name) => newest(join(native, name))))
const sources = Math.max(...['crates', 'Cargo.toml', 'Cargo.lock'].map((name) => newest(join(root, name))))
if (built < sources) {
  if (spawnSync('cargo', ['--version'], { stdio: 'ignore' }).status !== 0) {
    const hint = 'Install Rust 1.95 or newer with rustup (its home page is rustup.rs), then run this again.'
    fail('the engine has to be built, and there is no Rust (`cargo`) on this machine', hint, 2)
  }
  console.error('Building the engine; the first time takes about five minutes on two cores …')
  run('npm', ['run', '--silent', 'build:native'])
}
