// Which of the special tokens that a config names are set, by the rule of the scripts that the names come from.

import type { SpecialTokensConfig } from './options/template.js'
import type { Config } from './schema.js'

/** Whether a model is one of those whose script sets the end, begin and unknown tokens: case counts, as there. */
export const namesLlama = (name: string): boolean => name.includes('llama')

/**
 * The tokens to set, for a config as it was given: it is the name of the model, not its place on the disk, that
 * decides. The pad token counts only where the tokenizer has none.
 *
 * @example
 * namedTokensOf(resolveValues({ model_name_or_path: 'mpt', special_tokens: { pad_token: '[PAD]', eos_token: '</s>' } }).config)
 * // { pad_token: '[PAD]', eos_token: null, bos_token: null, unk_token: null }
 */
export const namedTokensOf = ({
  model_name_or_path: name,
  special_tokens: given,
}: Config): SpecialTokensConfig =>
  namesLlama(name) ? given : { pad_token: given.pad_token, eos_token: null, bos_token: null, unk_token: null }
