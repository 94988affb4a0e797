// What ran before: the logs that `trainer_state.json` files hold, Transformers' or ours. Reads, never writes.

import { readFile, stat } from 'node:fs/promises'
import { z } from 'zod'
import { LoraTrainError } from '../native/errors.js'
import { statePath } from '../trainer/output.js'
import { type History, historyOf } from './history.js'

/** What is read of the file; all else may be as it likes. */
const StateFile = z.looseObject({
  global_step: z.number().default(0),
  log_history: z.array(z.record(z.string(), z.unknown())),
})
export type StateFile = z.output<typeof StateFile>

/** A log of a few hundred thousand lines; what is larger is something else. */
const stateBytesMax = 256 * 2 ** 20

/** The state of a run, from `trainer_state.json` in `folder`. Throws `DATA` where it is not one. */
export const readState = async (folder: string): Promise<StateFile> => {
  const path = statePath(folder)
  const hint = 'Name a folder in which a run has left its trainer_state.json.'
  const refused = (why: string): LoraTrainError => new LoraTrainError('DATA', `${path}: ${why}`, hint)
  const found = await stat(path).catch(() => null)
  if (found === null || !found.isFile()) throw refused('there is no such file')
  if (found.size > stateBytesMax) throw refused(`${found.size} bytes are more than a log has`)
  let value: unknown
  try {
    // Python writes NaN and Infinity bare, which JSON has no words for. Texts are left as they are.
    const text = await readFile(path, 'utf8')
    value = JSON.parse(
      text.replace(/"(?:[^"\\]|\\.)*"|-?\bInfinity\b|\bNaN\b/g, (part) =>
        part.startsWith('"') ? part : `"${part}"`,
      ),
    )
  } catch (error) {
    throw refused(`it can't be read as JSON: ${error instanceof Error ? error.message : error}`)
  }
  const parsed = StateFile.safeParse(value)
  if (!parsed.success) throw refused('it has no log_history of a training')
  return parsed.data
}

/** The log of the checkpoint that a run goes on from; empty where it can't be read. */
export const earlierHistory = async (checkpoint: string): Promise<History> => {
  const state = await readState(checkpoint).catch(() => null)
  return historyOf(state?.log_history ?? [])
}
