// Waits of a run that are no steps: hashing, restoring, saving, reading back. Says how far each is; does none of them.

import { polled } from './cancel.js'
import type { WorkingEvent } from './events.js'

/** Between two events. */
export const pollIntervalMs = 100

/** How far something is, in its unit. */
export interface Count {
  done: number
  total: number
}

/** What is being done, by whoever does it. */
export interface Phase extends Pick<WorkingEvent, 'what' | 'path' | 'unit'> {
  count: () => Count
}

/** What a wait is at: a phase gives way to the next. */
export interface Work {
  begin(phase: Phase): void
  /** undefined: nothing has begun. */
  event(): WorkingEvent | undefined
}

/** `now` in ms. */
export const workOf = (now: () => number = () => performance.now()): Work => {
  let current: { phase: Phase; started: number } | undefined
  return {
    begin: (phase) => {
      current = { phase, started: now() }
    },
    event: () => {
      if (current === undefined) return undefined
      const { what, path, unit, count } = current.phase
      const elapsedMs = now() - current.started
      return { type: 'working', what, path, unit, ...progressOf(count(), elapsedMs) }
    },
  }
}

/** With the time left, if the rest goes as fast as what is done. */
export const progressOf = ({ done, total }: Count, elapsedMs: number) => ({
  done,
  total,
  elapsedMs,
  leftMs: done > 0 ? (elapsedMs / done) * Math.max(0, total - done) : null,
})

/** Waits for `promise`, and tells now and then how far `work` is. */
export async function* watched<Value>(
  work: Work,
  promise: Promise<Value>,
): AsyncGenerator<WorkingEvent, Value> {
  const events = polled(promise, pollIntervalMs, () => work.event())
  for (;;) {
    const next = await events.next()
    if (next.done === true) return next.value
    if (next.value !== undefined) yield next.value
  }
}
