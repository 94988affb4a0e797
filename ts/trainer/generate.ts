// One answer of a model, with or without an adapter. Opens a session, asks once, closes it.

import { type Config, engineOptions, namedTokensOf } from '../config/index.js'
import { renderRows } from '../data/template.js'
import { openNamedTokenizer } from '../data/tokenizer.js'
import { type HubOptions, localConfig } from '../hub/resolve.js'
import type { GenerateOptions, Native, SessionInfo, Tokenizer } from '../native/contract.js'
import { LoraTrainError, unwrap } from '../native/errors.js'

/** What is asked: a text as it is, a turn of a chat, or a row that the template makes a prompt of. */
export type Question =
  | { kind: 'text'; prompt: string }
  | { kind: 'chat'; prompt: string; system: string | null }
  | { kind: 'row'; instruction: string; input: string }

export interface Ask {
  question: Question
  /** A PEFT folder. */
  adapter: string | null
  sampling: Omit<GenerateOptions, 'seed' | 'eosIds' | 'adapterEnabled'>
  signal?: AbortSignal
  /** How a model that is on the hub comes here. */
  hub?: Omit<HubOptions, 'signal'>
  /** Hears what became of the tokenizer's special tokens. */
  onNotice?: (message: string) => void
}

/** The text that the model read, and the new text and ids. */
export interface Answer {
  prompt: string
  text: string
  promptTokens: number
  ids: number[]
}

/**
 * Returns what the model says, on an engine that is given.
 *
 * Throws `MODEL_FILES`, `MEMORY`, `DATA` where the prompt has no token, `CANCELLED`.
 */
export const generateWith = async (
  engine: Pick<Native, 'openTokenizer' | 'openSession'>,
  given: Config,
  { question, adapter, sampling, signal, hub = {}, onNotice = () => undefined }: Ask,
): Promise<Answer> => {
  const config = await localConfig(given, ['model', 'tokenizer'], { ...hub, ...(signal && { signal }) })
  const tokenizerPath = config.tokenizer_name ?? config.model_name_or_path
  const { tokenizer, vocabulary, notices } = await openNamedTokenizer(
    engine,
    tokenizerPath,
    namedTokensOf(given),
  )
  for (const message of notices) onNotice(message)
  const prompt = await promptOf(tokenizer, config, question)
  // A chat template writes the special tokens itself.
  const promptIds = unwrap(await tokenizer.encode(prompt, question.kind !== 'chat'))
  if (promptIds.length === 0)
    throw new LoraTrainError('DATA', 'the prompt has no token', 'Write a longer prompt.')
  const base = { ...engineOptions(config), ...vocabulary }
  const session = engine.openSession(
    JSON.stringify({
      ...base,
      method: { kind: 'none' },
      adapter,
      plan: { seqLength: promptIds.length + sampling.maxNewTokens, microBatch: 1, gradientAccumulation: 1 },
    }),
  )
  const cancel = (): void => session.cancel()
  signal?.addEventListener('abort', cancel)
  try {
    if (signal?.aborted) session.cancel()
    const info: SessionInfo = JSON.parse(unwrap(await session.load()).json)
    const options: GenerateOptions = {
      ...sampling,
      seed: config.seed,
      eosIds: eosIdsOf(tokenizer, info),
      adapterEnabled: adapter !== null,
    }
    const { ids } = unwrap(await session.generate(promptIds, JSON.stringify(options)))
    const { text } = unwrap(await tokenizer.decode(ids, true))
    return { prompt, text, promptTokens: promptIds.length, ids: [...ids] }
  } finally {
    signal?.removeEventListener('abort', cancel)
    await session.close()
  }
}

const promptOf = async (tokenizer: Tokenizer, { template }: Config, question: Question): Promise<string> => {
  if (question.kind === 'text') return question.prompt
  if (question.kind === 'row') {
    const { instruction, input } = question
    return renderRows('--instruction', [{ instruction, input, output: '' }], template).sources[0] ?? ''
  }
  const system = question.system === null ? [] : [{ role: 'system', content: question.system }]
  const messages = [...system, { role: 'user', content: question.prompt }]
  return unwrap(await tokenizer.applyChatTemplate(JSON.stringify(messages), true)).text
}

/** An answer ends with any end token of the model, or with the one that training puts after each answer. */
const eosIdsOf = (tokenizer: Tokenizer, { eosIds = [] }: SessionInfo): number[] => {
  const { eosId } = tokenizer.info()
  return [...new Set([...eosIds, ...(eosId === undefined ? [] : [eosId])])]
}
