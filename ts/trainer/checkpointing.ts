// A run's checkpoints while it runs: what goes into one, which is the last, how many stay. The loop says when.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Config } from '../config/index.js'
import type { Session, Tokenizer } from '../native/contract.js'
import { unwrap } from '../native/errors.js'
import { type Agreement, type Checkpoint, type RunState, trainerStateFile } from './checkpoint_files.js'
import { checkpointPath, keepNewest, writeCheckpoint } from './checkpoints.js'
import type { NoticeEvent, SavedEvent, WorkingEvent } from './events.js'
import { type Progress, progressAt } from './loop.js'
import { writeWhole } from './output.js'
import { watched, workOf } from './working.js'

export interface CheckpointingInput {
  session: Pick<Session, 'saveState' | 'progress'>
  config: Pick<Config, 'model_name_or_path' | 'save_total_limit'>
  outputDir: string
  /** null where the rows came as ids. */
  tokenizer: Pick<Tokenizer, 'save'> | null
  agreement: Agreement
  /** What the run went on from. */
  begun: Checkpoint | null
  /** The text of `trainer_state.json`. */
  trainerState: (progress: Progress) => string
}

export interface Checkpointing {
  /** Writes a checkpoint of `progress`, whose step the engine has done. Throws `OUTPUT`. */
  write(progress: Progress): AsyncGenerator<SavedEvent | NoticeEvent | WorkingEvent>
  /** The newest checkpoint of this run. */
  last(): { step: number; path: string } | null
}

export const checkpointingOf = (input: CheckpointingInput): Checkpointing => {
  const { session, config, outputDir, tokenizer, agreement, begun, trainerState } = input
  const said = new Set<string>()
  let last = begun === null ? null : { step: begun.run.step, path: begun.path }
  return {
    async *write(progress) {
      const work = workOf()
      const fill = async (folder: string): Promise<void> => {
        const path = checkpointPath(outputDir, progress.step)
        work.begin({ what: 'saving', path, unit: 'bytes', count: () => session.progress() })
        unwrap(await session.saveState(folder, config.model_name_or_path))
        if (tokenizer !== null) unwrap(await tokenizer.save(folder))
        await writeWhole(join(folder, trainerStateFile), trainerState(progress))
      }
      const state = { version: version(), run: runStateOf(progress), agreement }
      const path = yield* watched(work, writeCheckpoint({ outputDir, fill, state, work }))
      last = { step: progress.step, path }
      yield { type: 'saved', what: 'checkpoint', path }
      const { save_total_limit: limit } = config
      const left = limit === null ? [] : await keepNewest(outputDir, progress.step, limit)
      for (const message of left.filter((message) => !said.has(message))) {
        said.add(message)
        yield { type: 'notice', message }
      }
    },
    last: () => last,
  }
}

const runStateOf = ({ totalSteps: _, log_history: __, ...run }: Progress): RunState => run

/** Where a run is that goes on from `checkpoint`. */
export const progressOf = ({ run, log_history }: Checkpoint): Progress => ({
  ...progressAt(0),
  ...run,
  log_history: [...log_history],
})

const version = (): string =>
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version
