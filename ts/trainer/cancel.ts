// How a run learns that it should end, and how it waits. Knows nothing of training.

import { setTimeout as sleep } from 'node:timers/promises'
import { LoraTrainError } from '../native/errors.js'

/** Throws `CANCELLED`, as the engine reports it, where the signal has been given. */
export const throwIfCancelled = (signal: AbortSignal | undefined): void => {
  if (signal?.aborted) throw new LoraTrainError('CANCELLED', 'the run was interrupted', 'Start it again.')
}

/** What `work` comes to, or `CANCELLED` as soon as the signal is given: then nobody waits for it any more. */
export const unlessCancelled = async <Value>(
  signal: AbortSignal | undefined,
  work: Promise<Value>,
): Promise<Value> => {
  if (signal === undefined) return work
  let onAbort = (): void => undefined
  const cancelled = new Promise<never>((_, reject) => {
    onAbort = () => {
      try {
        throwIfCancelled(signal)
      } catch (error) {
        reject(error)
      }
    }
    signal.addEventListener('abort', onAbort)
    if (signal.aborted) onAbort()
  })
  try {
    return await Promise.race([work, cancelled])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

/** Whether an error says that the run was to end. */
export const isCancelled = (error: unknown): boolean =>
  error instanceof LoraTrainError && error.code === 'CANCELLED'

/** Waits for `work` and yields `event()` each `intervalMs` until it is there. */
export async function* polled<Value, Event>(
  work: Promise<Value>,
  intervalMs: number,
  event: () => Event,
): AsyncGenerator<Event, Value> {
  const done = work.then((value) => ({ value }))
  for (;;) {
    const finished = await Promise.race([done, sleep(intervalMs)])
    if (finished !== undefined) return finished.value
    yield event()
  }
}

/** Waits for `work` and yields what it has put into `events`, each `intervalMs` and at the end. */
export async function* queued<Value, Event>(
  work: Promise<Value>,
  intervalMs: number,
  events: Event[],
): AsyncGenerator<Event, Value> {
  const done = work.then((value) => ({ value }))
  for (;;) {
    const finished = await Promise.race([done, sleep(intervalMs)])
    yield* events.splice(0)
    if (finished !== undefined) return finished.value
  }
}
