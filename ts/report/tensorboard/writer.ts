// TensorBoard's event files of a run, as Transformers' TensorBoardCallback writes them: the same folder, the same names.
// What is written is written at once: a run that is killed leaves at most one record cut short, which readers expect.

import { type FileHandle, open, readdir } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { makeFolder } from '../../trainer/output.js'
import { event, type Said } from './event.js'
import { record } from './record.js'

export interface EventWriter {
  /** The file. */
  path: string
  /** Appends what is said of one step. */
  write(step: number, said: readonly Said[]): Promise<void>
  close(): Promise<void>
}

/** Opens a new event file in `folder`, which is made where it is missing. Throws what the file system reports. */
export const openEvents = async (folder: string, now: () => number = Date.now): Promise<EventWriter> => {
  await makeFolder(folder)
  const { path, file } = await newFile(folder, Math.floor(now() / 1000))
  const write = async (step: number, said: readonly Said[]): Promise<void> => {
    const seconds = now() / 1000
    await file.appendFile(Buffer.concat(said.map((one) => record(event(seconds, step, one)))))
  }
  await write(0, [{ kind: 'version' }])
  return { path, write, close: () => file.close() }
}

/** A name of SummaryWriter's form that is not taken: seconds, host, process, and a count. */
const newFile = async (folder: string, seconds: number): Promise<{ path: string; file: FileHandle }> => {
  for (let count = 0; ; count++) {
    const name = `events.out.tfevents.${String(seconds).padStart(10, '0')}.${host()}.${process.pid}.${count}`
    const path = join(folder, name)
    try {
      return { path, file: await open(path, 'ax') }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
  }
}

/** A host's name may hold what a file's name can't. */
const host = (): string => hostname().replace(/[^\w.-]/g, '_')

const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

/** `Nov25_02-10-59_host`, as the callback names the folder of a run that starts now. */
export const runName = (now: Date): string => {
  const two = (value: number): string => String(value).padStart(2, '0')
  const time = [now.getHours(), now.getMinutes(), now.getSeconds()].map(two).join('-')
  return `${months[now.getMonth()]}${two(now.getDate())}_${time}_${host()}`
}

/** The folder below `runs` that was written to last, for a run that goes on; undefined where there is none. */
export const newestRun = async (runs: string): Promise<string | undefined> => {
  const files = await readdir(runs, { recursive: true }).catch(() => [])
  // The files' names begin with their time in seconds, so that they sort by it.
  const found = files
    .map((path) => /^([^/\\]+)[/\\](events\.out\.tfevents\.\d+)/.exec(path))
    .filter((match) => match !== null)
    .sort((a, b) => ((a[2] ?? '') < (b[2] ?? '') ? -1 : 1))
  const name = found.at(-1)?.[1]
  return name === undefined ? undefined : join(runs, name)
}

/**
 * The scalars of a log line, under the names that Transformers gives them: `eval_loss` is `eval/loss`, `loss` is
 * `train/loss`. The step is the event's own.
 */
export const scalarsOf = (log: Readonly<Record<string, number>>): Said[] =>
  Object.entries(log)
    .filter(([key]) => key !== 'step')
    .map(([key, value]) => ({
      kind: 'scalar',
      tag: key.startsWith('eval_') ? `eval/${key.slice('eval_'.length)}` : `train/${key}`,
      value,
    }))
