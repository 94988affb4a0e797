// The model's answers to rows: greedy, one session for all of them. Prints nothing and trains nothing.

import { type Config, engineOptions } from '../../ts/config/index.js'
import { renderRows } from '../../ts/data/template.js'
import { type GenerateOptions, type Native, unwrap } from '../../ts/native/index.js'
import type { Row } from '../tiny-model/rows.js'

/** More than the longest answer of the examples and its end need. */
const MAX_NEW_TOKENS = 12

/** What the model said to a row. */
export interface Given {
  row: Row
  answer: string
}

export interface Questions {
  rows: Row[]
  /** A PEFT folder, or null for the model as it is. */
  adapter: string | null
  signal: AbortSignal
}

export const isRight = (row: Row, answer: string): boolean => answer.trim() === row.output

/** Answers in the rows' order. Throws `MODEL_FILES`, `MEMORY`, `CANCELLED`. */
export async function answerRows(
  engine: Native,
  config: Config,
  { rows, adapter, signal }: Questions,
): Promise<Given[]> {
  const tokenizer = unwrap(await engine.openTokenizer(config.model_name_or_path))
  const { eosId } = tokenizer.info()
  const options: GenerateOptions = {
    maxNewTokens: MAX_NEW_TOKENS,
    doSample: false,
    temperature: 1,
    topK: 0,
    topP: 1,
    repetitionPenalty: 1,
    seed: config.seed,
    eosIds: eosId === undefined ? [] : [eosId],
    adapterEnabled: adapter !== null,
  }
  const plan = { seqLength: config.model_max_length, microBatch: 1, gradientAccumulation: 1 }
  const session = engine.openSession(
    JSON.stringify({ ...engineOptions(config), method: { kind: 'none' }, adapter, plan }),
  )
  const cancel = (): void => session.cancel()
  signal.addEventListener('abort', cancel)
  try {
    if (signal.aborted) cancel()
    unwrap(await session.load())
    const given: Given[] = []
    const { sources } = renderRows(
      'held-out rows',
      rows.map((row) => ({ ...row })),
      config.template,
    )
    for (const [index, row] of rows.entries()) {
      const prompt = unwrap(await tokenizer.encode(sources[index] ?? '', true))
      const { ids } = unwrap(await session.generate(prompt, JSON.stringify(options)))
      given.push({ row, answer: unwrap(await tokenizer.decode(ids, true)).text })
    }
    return given
  } finally {
    signal.removeEventListener('abort', cancel)
    await session.close()
  }
}
