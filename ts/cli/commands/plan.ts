// `lora-train plan`: memory and time of a run, from the model's config, with nothing loaded.

import { z } from 'zod'
import { type Config, checkOffered, namedTokensOf, notices } from '../../config/index.js'
import { LoraTrainError } from '../../native/errors.js'
import { planTable, shortage, trainableLine } from '../../report/index.js'
import { planWith } from '../../trainer/plan.js'
import { configCommand, hubOf, print } from '../command.js'
import { json } from '../options.js'

/** A plan opens no tokenizer, which may be elsewhere: only a training knows which tokens are new. */
const uncounted = (config: Config): string[] =>
  Object.values(namedTokensOf(config)).every((token) => token === null)
    ? []
    : [
        'special_tokens: no new token is counted; where the vocabulary has no free row, it grows by one for each',
      ]

export const plan = configCommand({
  name: 'plan',
  summary:
    'Say what memory and time a run would take, without loading the model. Exit status 5: it does not fit.',
  usage: '[CONFIG.yaml] [--memory 24GiB,24GiB] [--option value …]',
  options: z.strictObject({ json }),
  run: async ({ resolved, own }, world) => {
    checkOffered(resolved, 'planning')
    print(
      world.stderr,
      [...notices(resolved), ...uncounted(resolved.config)].map((message) => `Note: ${message}`),
    )
    const found = await planWith(await world.engine(), resolved.config, hubOf(world, resolved.config))
    print(world.stdout, own.json ? [JSON.stringify(found)] : [...planTable(found), trainableLine(found)])
    if (found.fits) return
    const { suggestions } = found
    throw new LoraTrainError(
      'MEMORY',
      shortage(found),
      suggestions.length > 0 ? `It would fit with: ${suggestions.join('; ')}.` : 'Choose a smaller model.',
    )
  },
})
