// `lora-train train`: runs the trainer and hands its events to the report.

import { z } from 'zod'
import { forTraining } from '../../config/index.js'
import { LoraTrainError } from '../../native/errors.js'
import { withReports } from '../../report/index.js'
import type { InterruptedEvent } from '../../trainer/events.js'
import { trainWith } from '../../trainer/train.js'
import { configCommand, reportOf } from '../command.js'
import { eventsJson } from '../options.js'

export const train = configCommand({
  name: 'train',
  summary: 'Fine-tune a model: an adapter where there is a section lora, else all parameters.',
  usage: '[CONFIG.yaml] [--option value …]',
  options: z.strictObject({ json: eventsJson }),
  run: async ({ resolved, own }, world) => {
    const config = forTraining(resolved)
    const report = reportOf(world, resolved, own)
    const engine = await world.engine()
    let interrupted: InterruptedEvent | undefined
    const events = trainWith(engine, config, { signal: world.interruptible() })
    for await (const event of withReports(resolved, events, world.env)) {
      report(event)
      if (event.type === 'interrupted') interrupted = event
    }
    if (interrupted === undefined) return
    const { checkpoint } = interrupted
    throw new LoraTrainError(
      'CANCELLED',
      'interrupted',
      checkpoint === null
        ? 'Start the command again to train anew.'
        : `Start the command again with --resume_from_checkpoint ${checkpoint} to go on from there.`,
    )
  },
})
