// The files that a run leaves for people: loss.svg, loss.png and report.html at its end, however it ends, and
// TensorBoard's event files as it goes. The API and the command line both pass their events through here.
// A report that can't be written is said and ends no run; the result of a training is worth more than its picture.

import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import type { Config, Resolved } from '../config/index.js'
import { LoraTrainError } from '../native/errors.js'
import { checkpointsIn } from '../trainer/checkpoints.js'
import type { SavedEvent, TrainEvent } from '../trainer/events.js'
import { makeFolders, reportNames, statePath, writeWhole } from '../trainer/output.js'
import { goesOn } from '../trainer/resume.js'
import { lossChart } from './chart/loss_chart.js'
import { png } from './chart/png.js'
import { svg } from './chart/svg.js'
import { earlierHistory, readState } from './earlier.js'
import { html } from './page/html.js'
import { type RunRecord, recordEvent, recordOf, recordOfState } from './run_record.js'
import type { Said } from './tensorboard/event.js'
import { type EventWriter, newestRun, openEvents, runName, scalarsOf } from './tensorboard/writer.js'

/** Writes the three files of a record to `folder`, each whole or not at all, and names them. Throws `OUTPUT`. */
const writeReport = async (folder: string, record: RunRecord): Promise<string[]> => {
  const chart = lossChart(record.history, record.title)
  const contents: [name: string, content: string | Uint8Array][] = [
    [reportNames.svg, svg(chart)],
    [reportNames.png, png(chart)],
    [reportNames.page, html(record)],
  ]
  for (const [name, content] of contents) await writeWhole(join(folder, name), content)
  return contents.map(([name]) => join(folder, name))
}

/**
 * Writes the report of a run that is over, from the `trainer_state.json` in `folder`, or from that of its newest
 * checkpoint: Transformers' or ours. Returns the paths. Throws `DATA` where there is no log, and `OUTPUT`.
 */
export const writeReportOf = async (folder: string, outputDir = folder): Promise<string[]> => {
  const checkpoints = (await checkpointsIn(folder)).map(({ path }) => path)
  const places = [folder, ...checkpoints.reverse()]
  const holding = places.find((place) => existsSync(statePath(place))) ?? folder
  const record = recordOfState(basename(resolve(folder)), await readState(holding))
  if (record.history.points.length === 0) {
    throw new LoraTrainError('DATA', `${holding}: its log has no loss`, 'Name the folder of another run.')
  }
  await makeFolders([outputDir])
  return writeReport(outputDir, record)
}

/** Where TENSORBOARD_LOGGING_DIR is read from. */
type Env = Readonly<Record<string, string | undefined>>

/**
 * Passes the events of a run on, and writes its files: those of TensorBoard where `report_to` asks for them, the
 * others before the last event. A run without a whole step leaves none.
 */
export async function* withReports(
  resolved: Resolved,
  events: AsyncIterable<TrainEvent>,
  env: Env = process.env,
): AsyncGenerator<TrainEvent> {
  const { config } = resolved
  const record = recordOf(resolved)
  const board = config.report_to.some((place) => place !== 'none') ? tensorboard(config, env) : undefined
  let last: TrainEvent | undefined
  try {
    for await (const event of events) {
      if (event.type === 'resumed') record.history = await earlierHistory(event.path)
      recordEvent(record, event)
      yield* tried("TensorBoard's events are written no more", async () => board?.take(event))
      // The last event waits for the report, and the report until the run has given its memory back.
      if (event.type === 'done' || event.type === 'interrupted') last = event
      else yield event
    }
    yield* finished(config, record)
    if (last !== undefined) yield last
  } catch (error) {
    record.end = { how: 'failed', words: error instanceof Error ? error.message : String(error) }
    yield* finished(config, record)
    throw error
  } finally {
    await board?.close()
  }
}

/** Writes the report of a run that has ended. */
async function* finished({ output_dir: folder }: Config, record: RunRecord): AsyncGenerator<TrainEvent> {
  if (folder === null || record.history.points.length === 0) return
  yield* tried('the report is not whole', async () => {
    record.peakBytes = process.resourceUsage().maxRSS * 1024
    // A run that failed has taken its empty folder away.
    await makeFolders([folder])
    const [, , page = ''] = await writeReport(folder, record)
    return { type: 'saved', what: 'report', path: page }
  })
}

/** Does it, and yields what it has to say, or what its failure means and why it failed. */
async function* tried(
  otherwise: string,
  write: () => Promise<SavedEvent | undefined>,
): AsyncGenerator<TrainEvent> {
  try {
    const said = await write()
    if (said !== undefined) yield said
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    yield { type: 'notice', message: `${otherwise}: ${why}` }
  }
}

interface Board {
  take(event: TrainEvent): Promise<undefined>
  close(): Promise<void>
}

/** Writes what Transformers' TensorBoardCallback writes: texts at the start, then each line of the log. */
const tensorboard = (config: Config, env: Env): Board => {
  let writer: EventWriter | undefined
  let state: 'waiting' | 'open' | 'given up' = 'waiting'
  const take = async (event: TrainEvent): Promise<undefined> => {
    if (state === 'given up') return
    try {
      if (event.type === 'start') {
        writer = await openEvents(await boardFolder(config, env))
        state = 'open'
        await writer.write(0, await textsOf(config))
      } else if (event.type === 'log' || event.type === 'eval' || event.type === 'done') {
        await writer?.write(event.log.step, scalarsOf({ ...event.log }))
      }
    } catch (error) {
      // It is said once, and not again for each line of the log.
      state = 'given up'
      throw error
    }
  }
  return { take, close: async () => writer?.close().catch(() => undefined) }
}

/** The folder of the event files; a run that goes on stays in the one that it had. */
const boardFolder = async (config: Config, env: Env): Promise<string> => {
  const named = config.logging_dir ?? env.TENSORBOARD_LOGGING_DIR
  if (named !== undefined && named !== '') return named.replace(/^~(?=\/|$)/, homedir())
  const runs = join(config.output_dir ?? '.', reportNames.board)
  return (goesOn(config) ? await newestRun(runs) : undefined) ?? join(runs, runName(new Date()))
}

/** The options, and the model's config where it lies in a folder. */
const textsOf = async (config: Config): Promise<Said[]> => {
  const args: Said = { kind: 'text', tag: 'args', text: JSON.stringify(config, null, 2) }
  const model = await readFile(join(config.model_name_or_path, 'config.json'), 'utf8').catch(() => null)
  return model === null ? [args] : [args, { kind: 'text', tag: 'model_config', text: model }]
}
