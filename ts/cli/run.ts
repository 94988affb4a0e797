// From the words of a command line to an exit status. Prints, but never ends the process.

import { readFileSync } from 'node:fs'
import { CommanderError, Command as Program } from 'commander'
import { exitStatus, LoraTrainError } from '../native/errors.js'
import { type Command, print, type World } from './command.js'
import { config } from './commands/config.js'
import { doctor } from './commands/doctor.js'
import { generate } from './commands/generate.js'
import { inspect } from './commands/inspect.js'
import { plan } from './commands/plan.js'
import { quantize } from './commands/quantize.js'
import { report } from './commands/report.js'
import { train } from './commands/train.js'
import { commandHelp, programHelp } from './help.js'

export const commands: readonly Command[] = [train, plan, inspect, generate, quantize, report, doctor, config]

/** Runs one command line and returns its exit status. The error line and its hint come last, on stderr. */
export const run = async (words: readonly string[], world: World): Promise<number> => {
  try {
    if (words.length === 0) {
      print(world.stderr, programHelp(commands))
      return exitStatus('USAGE')
    }
    await program(world).parseAsync([...words], { from: 'user' })
    return 0
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0
    print(world.stderr, failureLines(error))
    return exitStatus(failureOf(error).code)
  }
}

/** commander finds the command and answers --help and --version; the options are the schema's matter. */
const program = (world: World): Program => {
  const output = { writeOut: (text: string) => void world.stdout.write(text), outputError: () => undefined }
  const root = new Program('lora-train')
    .version(version())
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput(output)
  root.helpInformation = () => `${programHelp(commands).join('\n')}\n`
  for (const command of commands) {
    const parser = root
      .command(command.name)
      .argument('[words...]')
      .allowUnknownOption()
      .exitOverride()
      .configureOutput(output)
      .action(async (_words, _options, { args }: Program) => command.run(args, world))
    parser.helpInformation = () => `${commandHelp(command).join('\n')}\n`
  }
  return root
}

const version = (): string =>
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version

const failureOf = (error: unknown): LoraTrainError => {
  if (error instanceof LoraTrainError) return error
  if (error instanceof CommanderError) {
    const [message = '', hint = ''] = error.message.replace(/^error: /, '').split('\n')
    return new LoraTrainError('USAGE', message, hint.replace(/^\((.*)\)$/, '$1') || 'See lora-train --help.')
  }
  const what = error instanceof Error ? `${error.name}: ${error.message}` : String(error)
  return new LoraTrainError(
    'INTERNAL',
    what,
    'This is a mistake of lora-train; please report it with the command.',
  )
}

/** The last two lines of a failure: what is wrong, and what to do. */
export const failureLines = (error: unknown): string[] => {
  const { message, hint } = failureOf(error)
  return [`error: ${message}`, ...(hint === '' ? [] : [`hint: ${hint}`])]
}
