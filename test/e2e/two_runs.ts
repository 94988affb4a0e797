// The folder that the two runs were started in, with a stand-in for each model: every path that their options name
// is there, so that no word of them changes.

import { cpSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { runs } from '../config/run_words.js'
import { folderOf } from '../folder.js'
import { goldens } from './model.js'
import { type Ended, start, type Where } from './program.js'

/** Made by `bench/goldens/make_standins.py` and `make_standins_logs.py`. */
export const standins = join(goldens, 'standins')

export interface LogLine {
  loss: number
  grad_norm: number
  learning_rate: number
  epoch: number
  step: number
}

/** What the Transformers Trainer logs and PEFT counts for a run on its stand-in. */
export interface Expected {
  arguments: Record<string, number | string>
  trainable_params: number
  all_params: number
  log_history: [...LogLine[], { train_loss: number; epoch: number; step: number }]
  /** Token ids of each row, and the place of the first supervised one. */
  rows: { ids: number[]; answer: number }[]
}

export const expectedOf = (name: 'bloom' | 'mpt'): Expected =>
  JSON.parse(readFileSync(join(standins, `expected_${name}.json`), 'utf8'))

/** The lines of `log_history` before the closing one. */
export const linesOf = ({ log_history }: Expected): LogLine[] => log_history.slice(0, -1) as LogLine[]

/** Where a run starts: the working folder, which is the home folder as well. */
export interface Place {
  folder: string
  run(...words: string[]): Promise<Ended>
  begin(...words: string[]): ReturnType<typeof start>
}

export const placeOf = (t: ExecutionContext): Place => {
  const folder = folderOf(t)
  mkdirSync(join(folder, 'malteos'))
  const copies: [from: string, to: string][] = [
    [join(standins, 'bloom'), 'malteos/bloom-6b4-clp-german'],
    [join(standins, 'mpt'), 'mpt_30B'],
    [join(standins, 'rows.json'), 'ger_alpaca_evol_instruct_70k_e.json'],
    [join(runs, 'deepspeed.json'), 'deepspeed.json'],
    [join(runs, 'mpt-30b-qlora.yaml'), 'mpt-30b-qlora.yaml'],
  ]
  for (const [from, to] of copies) cpSync(from, join(folder, to), { recursive: true })
  const where: Where = { cwd: folder, env: { HOME: folder, NO_COLOR: '1' } }
  return {
    folder,
    begin: (...words) => start(words, where),
    run: (...words) => start(words, where).ended,
  }
}
