// Help of the program and of each command, made of the commands' data and the schema.

import { configHelp, ownHelp } from '../config/index.js'
import type { Command } from './command.js'

/** What `lora-train --help` prints. */
export const programHelp = (commands: readonly Command[]): string[] => {
  const width = Math.max(...commands.map(({ name }) => name.length))
  return [
    'Usage: lora-train COMMAND [CONFIG.yaml] [--option value …]',
    '',
    'Fine-tune language models on a machine that you own.',
    '',
    'Commands:',
    ...commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`),
    '',
    'lora-train COMMAND --help lists the options of a command; --version prints the version.',
  ]
}

/** What `lora-train COMMAND --help` prints. */
export const commandHelp = ({ name, usage, summary, options, takes }: Command): string[] => [
  `Usage: lora-train ${name} ${usage}`.trimEnd(),
  '',
  summary,
  '',
  'Options of the command:',
  ...ownHelp(options),
  ...(takes === 'config' ? configHelp() : []),
]
