// `lora-train quantize`: a model in 4 or 8 bits, as a folder that Transformers and `train` read.

import { z } from 'zod'
import { checkOffered } from '../../config/index.js'
import { quantizeWith } from '../../trainer/quantize.js'
import { configCommand, reportOf } from '../command.js'
import { eventsJson } from '../options.js'

export const quantize = configCommand({
  name: 'quantize',
  summary: 'Write a model in 4 or 8 bits, as bitsandbytes saves it.',
  usage: '[CONFIG.yaml] --model_name_or_path M --load_in_4bit true --output_dir DIR [--option value …]',
  options: z.strictObject({ json: eventsJson }),
  run: async ({ resolved, own }, world) => {
    checkOffered(resolved, 'quantizing')
    const report = reportOf(world, resolved, own)
    const events = quantizeWith(await world.engine(), resolved.config, { signal: world.interruptible() })
    for await (const event of events) report(event)
  },
})
