// Options that several commands have beside the config's.

import { z } from 'zod'
import { ours } from '../config/meta.js'

export const json = z.boolean().default(false).meta({
  description: 'Print JSON on stdout instead of text.',
  source: ours,
})

/** `json` of a command that yields events. */
export const eventsJson = json.meta({
  description: 'Print one JSON object for each event on stdout, and text on stderr.',
})
