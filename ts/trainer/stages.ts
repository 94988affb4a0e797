// What runs of several kinds are made of: a model that comes from the hub, is loaded, is written and read back. Each
// as a stream of events; none of them decides what a run does.

import type { Config } from '../config/index.js'
import { localConfig, type Need } from '../hub/resolve.js'
import type { Checked, Session, SessionInfo, Tokenizer } from '../native/contract.js'
import { unwrap } from '../native/errors.js'
import { polled, queued } from './cancel.js'
import type { HubEvent, TrainEvent } from './events.js'
import { type Count, pollIntervalMs, progressOf, watched, workOf } from './working.js'

/** Brings what the config names by hub id into the cache; returns the config with its paths. */
export async function* download(
  config: Config,
  needs: readonly Need[],
  signal: AbortSignal | undefined,
): AsyncGenerator<HubEvent, Config> {
  const left = new AbortController()
  const either = signal ? AbortSignal.any([signal, left.signal]) : left.signal
  const events: HubEvent[] = []
  const onEvent = (event: HubEvent): void => void events.push(event)
  try {
    return yield* queued(localConfig(config, needs, { signal: either, onEvent }), pollIntervalMs, events)
  } finally {
    left.abort()
  }
}

export async function* load(session: Session): AsyncGenerator<TrainEvent, SessionInfo> {
  const started = performance.now()
  const result = yield* polled(session.load(), pollIntervalMs, (): TrainEvent => {
    const at = progressOf(session.progress(), performance.now() - started)
    const { done: doneBytes, total: totalBytes, elapsedMs, leftMs } = at
    return { type: 'loading', doneBytes, totalBytes, elapsedMs, leftMs }
  })
  const model = unwrapJson<SessionInfo>(result)
  yield { type: 'loaded', model, elapsedMs: performance.now() - started }
  return model
}

/** What goes into the folder of a result. */
export interface Result {
  what: 'adapter' | 'model'
  path: string
  write: () => ReturnType<Session['saveModel']>
  tokenizer: Tokenizer | null
}

/** Writes a result, then its tokenizer, and reads it back. */
export async function* save(
  session: Session,
  { what, path, write, tokenizer }: Result,
): AsyncGenerator<TrainEvent> {
  const work = workOf()
  work.begin({ what: 'saving', path, unit: 'bytes', count: countOf(session) })
  unwrap(yield* watched(work, write()))
  yield { type: 'saved', what, path }
  if (tokenizer !== null) {
    unwrap(await tokenizer.save(path))
    yield { type: 'saved', what: 'tokenizer', path }
  }
  const unit = what === 'model' ? 'bytes' : 'blocks'
  work.begin({ what: 'checking', path, unit, count: countOf(session) })
  const checked = yield* watched(work, session.checkSaved(path))
  yield { type: 'checked', path, ...unwrapJson<Checked>(checked) }
}

export const countOf = (session: Session) => (): Count => session.progress()

export const unwrapJson = <T>(result: Parameters<typeof unwrap<{ json: string }>>[0]): T =>
  JSON.parse(unwrap(result).json) as T
