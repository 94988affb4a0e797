// SIGINT and SIGTERM: the first asks the run to end, the second ends it. Ends nothing itself: it calls `end`.

import { constants } from 'node:os'

const names = ['SIGINT', 'SIGTERM'] as const
type Name = (typeof names)[number]

/** What `process` is to this file. */
export interface SignalSource {
  on(name: Name, listener: () => void): unknown
}

export interface Interrupts {
  /** From now on the first signal aborts the result; before, signals do what they always do. */
  listen(): AbortSignal
  /** 130 after SIGINT, 143 after SIGTERM, undefined after neither. */
  status(): number | undefined
}

/** `said` tells the person that the first signal was heard; `end` ends the process with a status. */
export const interruptsOf = (
  source: SignalSource,
  { said, end }: { said: (text: string) => void; end: (status: number) => void },
): Interrupts => {
  let status: number | undefined
  return {
    listen: () => {
      const controller = new AbortController()
      for (const name of names) {
        source.on(name, () => {
          const ended = 128 + constants.signals[name]
          // Whoever asks twice does not want to wait.
          if (status !== undefined) return end(ended)
          status = ended
          said('\nStopping; a second signal ends at once\n')
          controller.abort()
        })
      }
      return controller.signal
    },
    status: () => status,
  }
}
