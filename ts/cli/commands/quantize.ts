// `lora-train quantize`: a model in 4 or 8 bits, as a folder that Transformers and `train` read.

import { z } from 'zod'
import { checkOffered, notices } from '../../config/index.js'
import { createReport } from '../../report/index.js'
import { quantizeWith } from '../../trainer/quantize.js'
import { configCommand } from '../command.js'
import { eventsJson } from '../options.js'

export const quantize = configCommand({
  name: 'quantize',
  summary: 'Write a model in 4 or 8 bits, as bitsandbytes saves it.',
  usage: '[CONFIG.yaml] --model_name_or_path M --load_in_4bit true --output_dir DIR [--option value …]',
  options: z.strictObject({ json: eventsJson }),
  run: async ({ resolved, own }, world) => {
    checkOffered(resolved, 'quantizing')
    const report = createReport({
      stdout: world.stdout,
      stderr: world.stderr,
      format: own.json ? 'json' : 'text',
      progressStyle: resolved.config.disable_tqdm ? 'hidden' : 'shown',
    })
    for (const message of notices(resolved)) report({ type: 'notice', message })
    const events = quantizeWith(await world.engine(), resolved.config, { signal: world.interruptible() })
    for await (const event of events) report(event)
  },
})
