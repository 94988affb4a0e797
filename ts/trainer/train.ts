// The training run as an async iterable of events.
import type { TrainEvent } from './events.js'

export interface TrainOptions {
  /** Ends the run after the last whole step. */
  signal?: AbortSignal
}

/** Fine-tunes as `config` says; the events are the only output besides the files. */
export async function* train(config: object, { signal }: TrainOptions = {}): AsyncGenerator<TrainEvent> {
  signal?.throwIfAborted()
  throw new Error(`train is not merged yet: ${Object.keys(config).length} options`)
}
