// What a command is: data and one function. Parsing and help follow from the data; nothing here ends the process.

import type { z } from 'zod'
import { type Config, notices, type Resolved, resolveOwn, resolveWords } from '../config/index.js'
import type { HubOptions } from '../hub/resolve.js'
import type { Native } from '../native/contract.js'
import { createReport, type Output, type Report, type ReportOptions } from '../report/index.js'

/** The world, as a command sees it. `main.ts` makes the real one, tests make their own. */
export interface World {
  stdout: Output
  stderr: Output
  env: Readonly<Record<string, string | undefined>>
  /** The engine. Throws `NOT_BUILT`. */
  engine(): Promise<Native>
  /** From now on the first SIGINT or SIGTERM gives this signal instead of ending the process. */
  interruptible(): AbortSignal
}

export interface Command {
  name: string
  summary: string
  /** After the name, in help. */
  usage: string
  takes: 'config' | 'nothing'
  /** The command's own options; those of the config come on top. */
  options: z.ZodObject
  /** Runs on the words that follow the command's name. Throws `LoraTrainError`. */
  run(words: readonly string[], world: World): Promise<void>
}

/** A command that takes a config file and the options of the schema. */
export const configCommand = <Own extends z.ZodObject>(spec: {
  name: string
  summary: string
  usage: string
  options: Own
  run(input: { resolved: Resolved; own: z.output<Own> }, world: World): Promise<void>
}): Command => ({
  ...spec,
  takes: 'config',
  run: async (words, world) => {
    const { extra: own, ...resolved } = resolveWords(words, spec.options)
    await spec.run({ resolved, own }, world)
  },
})

/** A command that takes its own options only. */
export const plainCommand = <Own extends z.ZodObject>(spec: {
  name: string
  summary: string
  options: Own
  run(own: z.output<Own>, world: World): Promise<void>
}): Command => ({
  ...spec,
  usage: '',
  takes: 'nothing',
  run: async (words, world) => spec.run(resolveOwn(words, spec.options), world),
})

const progressStyleOf = ({ disable_tqdm }: Config): ReportOptions['progressStyle'] =>
  disable_tqdm ? 'hidden' : 'shown'

/** The report that a command tells its events to; the notices of the config it is told here. */
export const reportOf = (
  { stdout, stderr }: World,
  resolved: Resolved,
  { json }: { json: boolean },
): Report => {
  const format = json ? 'json' : 'text'
  const report = createReport({ stdout, stderr, format, progressStyle: progressStyleOf(resolved.config) })
  for (const message of notices(resolved)) report({ type: 'notice', message })
  return report
}

/** How a command brings a model here that is on the hub: how far that is goes to stderr. */
export const hubOf = ({ stderr, env }: World, config: Config): HubOptions => ({
  env,
  onEvent: createReport({
    stdout: stderr,
    stderr,
    format: 'text',
    progressStyle: progressStyleOf(config),
  }),
})

/** Writes whole lines. */
export const print = (output: Output, lines: readonly string[]): void => {
  if (lines.length > 0) output.write(`${lines.join('\n')}\n`)
}
