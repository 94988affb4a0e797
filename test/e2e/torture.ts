// Kills the real program with SIGKILL at random moments, resumes it, and looks at what is there each time.

import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ConfigInput } from '../../ts/index.js'
import { readCheckpoint } from '../../ts/trainer/checkpoint_files.js'
import { checkpointsIn } from '../../ts/trainer/checkpoints.js'
import { program, start } from './program.js'
import { configIn, differences, resultOf } from './resume.js'

export interface Torture {
  /** Where the files go. */
  folder: string
  values: Partial<ConfigInput>
  kills: number
  random: () => number
  /** Called after each kill. */
  onKill?: (life: Life) => void
}

/** What one life of the program came to. */
export interface Life {
  kills: number
  /** The last checkpoint that the program said it had written, in this life or in one before. */
  saidStep: number
  /** The newest checkpoint on disk. */
  foundStep: number
  /** Whether the kill left a folder that was being written or removed. */
  leftover: boolean
}

/** What the whole campaign came to. */
export interface Outcome {
  kills: number
  /** Kills that hit the writing or the removal of a checkpoint. */
  inSaving: number
  /** Runs that came to their end, each with the bits of the run that was never killed. */
  finished: number
}

/** A life is killed within this time after it has begun to train, or sooner. */
const lifeMs = 400

/**
 * Kills until there were `kills`, then lets the last run end.
 *
 * Throws where a checkpoint that was said is not there, where one that is there is not whole, where the program
 * fails by itself, and where an end differs from that of the unbroken run.
 */
export const torture = async ({ folder, values, kills, random, onKill }: Torture): Promise<Outcome> => {
  // Steps that take about as long as saving does.
  const options = { ...values, gradient_accumulation_steps: 17 }
  const straight = configFile(join(folder, 'straight'), options)
  const unbroken = await program('train', straight.file)
  if (unbroken.status !== 0) throw new Error(unbroken.stderr)
  const expected = resultOf(straight.output)

  const { file, output } = configFile(join(folder, 'killed'), options)
  const outcome = { kills: 0, inSaving: 0, finished: 0 }
  let saidStep = 0
  while (outcome.kills < kills || saidStep > 0) {
    const [oldest] = await checkpointsIn(output)
    // From the oldest a run writes again what is there already.
    const from = random() < 0.5 ? 'true' : (oldest?.path ?? '')
    const resume = oldest === undefined ? [] : ['--resume_from_checkpoint', from]
    const { child, ended, said } = start(['train', file, '--json', ...resume])
    let hasEnded = false
    void ended.finally(() => {
      hasEnded = true
    })
    if (outcome.kills < kills) {
      while (!hasEnded && !said().includes('"type":"start"')) await sleep(5)
      await sleep(random() * lifeMs)
      if (!hasEnded) child.kill('SIGKILL')
    }
    const { status, stdout, stderr } = await ended
    saidStep = Math.max(saidStep, saidStepIn(stdout))
    if (status === 0) {
      const differing = differences(expected, resultOf(output))
      if (differing.length > 0) throw new Error(`the end differs in ${differing.join(', ')}`)
      outcome.finished += 1
      saidStep = 0
      rmSync(output, { recursive: true })
      continue
    }
    if (status !== null) throw new Error(`the program ended with ${status}: ${stderr}`)
    const foundStep = await newestWhole(output)
    if (foundStep < saidStep)
      throw new Error(`checkpoint-${saidStep} was said, and ${foundStep} is the newest`)
    const leftover =
      existsSync(output) && readdirSync(output).some((name) => /^\.checkpoint-|\.replaced$/.test(name))
    outcome.kills += 1
    outcome.inSaving += leftover ? 1 : 0
    onKill?.({ kills: outcome.kills, saidStep, foundStep, leftover })
  }
  return outcome
}

const configFile = (folder: string, values: Partial<ConfigInput>): { file: string; output: string } => {
  const config = configIn(folder, values)
  const file = join(folder, 'run.json')
  writeFileSync(file, JSON.stringify({ ...config, save_steps: 2, save_total_limit: 2 }))
  return { file, output: config.output_dir }
}

/** Of whole lines: the last one may have been cut off by the kill. */
const saidStepIn = (stdout: string): number => {
  const lines = stdout.split('\n').slice(0, -1)
  const events = lines.map((line) => JSON.parse(line) as { type: string; what?: string; path?: string })
  const paths = events.flatMap(({ what, path }) =>
    what === 'checkpoint' && path !== undefined ? [path] : [],
  )
  return Number(/\d+$/.exec(paths.at(-1) ?? '')?.[0] ?? 0)
}

/** Reads every checkpoint, all of its bytes. */
const newestWhole = async (output: string): Promise<number> => {
  let newest = 0
  for (const { path, step } of await checkpointsIn(output)) {
    const { run } = await readCheckpoint(path)
    if (run.step !== step) throw new Error(`${path} is of step ${run.step}`)
    newest = step
  }
  return newest
}
