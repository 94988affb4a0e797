// A tokenizer as a config wants it: opened, and given the special tokens that the config names. Says what it changed.
// Never decides on a token that was not named.

import type { EngineOptions, Native, Tokenizer, TokenizerInfo } from '../native/contract.js'
import { unwrap } from '../native/errors.js'

/** The tokens to set; null: the tokenizer's own. */
export interface NamedTokens {
  pad_token: string | null
  eos_token: string | null
  bos_token: string | null
  unk_token: string | null
}

export interface NamedTokenizer {
  tokenizer: Tokenizer
  /** What the model has to know of it. `vocabRows` is null where no token was added. */
  vocabulary: Pick<EngineOptions, 'vocabRows' | 'tokenIds'>
  /** One sentence for each thing that people may not expect. */
  notices: string[]
}

const roles = ['pad', 'eos', 'bos', 'unk'] as const
type Role = (typeof roles)[number]

/**
 * Opens the tokenizer at `path` and sets the tokens that are named: the pad token only where there is none.
 *
 * Throws `MODEL_FILES`, and `CONFIG` where a token can't be added.
 */
export const openNamedTokenizer = async (
  engine: Pick<Native, 'openTokenizer'>,
  path: string,
  named: NamedTokens,
): Promise<NamedTokenizer> => {
  const tokenizer = unwrap(await engine.openTokenizer(path))
  const before = tokenizer.info()
  const { pad_token, ...others } = named
  const wanted = { ...(before.padToken === undefined && { pad_token }), ...others }
  const given = Object.entries(wanted).filter(([, token]) => token !== null)
  const tokens = JSON.stringify(Object.fromEntries(given))
  const after = given.length > 0 ? unwrap(await tokenizer.addSpecialTokens(tokens)) : before
  return { tokenizer, vocabulary: vocabularyOf(before, after), notices: told(named, before, after) }
}

const vocabularyOf = (before: TokenizerInfo, after: TokenizerInfo): NamedTokenizer['vocabulary'] => {
  const { vocabSize, padId = null, eosId = null, bosId = null, unkId = null } = after
  // A vocabulary may have ids that no token has: what counts is the last id, not their number.
  const rows = Math.max(vocabSize, ...[padId, eosId, bosId, unkId].map((id) => (id ?? -1) + 1))
  return {
    vocabRows: vocabSize > before.vocabSize ? rows : null,
    tokenIds: { pad: padId, eos: eosId, bos: bosId },
  }
}

const told = ({ pad_token }: NamedTokens, before: TokenizerInfo, after: TokenizerInfo): string[] => {
  const { padToken: own } = before
  const kept = own !== undefined && pad_token !== null && pad_token !== own
  const changes = roles.map((role) => changeOf(role, before, after)).filter((change) => change !== '')
  return [
    ...(kept ? [`special_tokens.pad_token has no effect: the tokenizer has ${own}`] : []),
    ...(changes.length > 0 ? [`special_tokens: ${changes.join('; ')}`] : []),
  ]
}

/** `pad_token is [PAD], added with the id 50277`, or nothing. */
const changeOf = (role: Role, before: TokenizerInfo, after: TokenizerInfo): string => {
  const [was, is, id] = [before[`${role}Token`], after[`${role}Token`], after[`${role}Id`]]
  if (is === undefined || is === was) return ''
  const added = id !== undefined && id >= before.vocabSize
  const how = added
    ? `, added with the id ${id}`
    : `, the token ${id}${was === undefined ? '' : `; it was ${was}`}`
  return `${role}_token is ${is}${how}`
}
