// `lora-train config`: the config that a command line means, with the origin of each value. It is a config file again.

import { z } from 'zod'
import { type Config, notices, originLines, refusals } from '../../config/index.js'
import { configCommand, print } from '../command.js'
import { json } from '../options.js'

export const config = configCommand({
  name: 'config',
  summary: 'Print the merged options and where each value comes from; the output is a config file itself.',
  usage: '[CONFIG.yaml] [--option value …]',
  options: z.strictObject({ json }),
  run: async ({ resolved, own }, world) => {
    print(
      world.stderr,
      notices(resolved).map((message) => `Note: ${message}`),
    )
    print(
      world.stderr,
      refusals(resolved).map(({ message }) => `Note: train would refuse this: ${message}`),
    )
    const origins = Object.fromEntries(resolved.origins)
    const printed: { config: Config; origins: unknown } = { config: resolved.config, origins }
    print(world.stdout, own.json ? [JSON.stringify(printed)] : originLines(resolved))
  },
})
