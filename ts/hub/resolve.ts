// Ids of models on the Hugging Face hub, where a config may have paths: the config gets paths of the hub's cache, into
// which snapshot.ts brings what a command reads. Never prints; loads what speaks with the hub only for an id.

import { existsSync } from 'node:fs'
import type { Config } from '../config/index.js'
import type { HubEvent } from '../trainer/events.js'

/** What a command reads of a model: all of it, its config, or the tokenizer's files. */
export type Need = 'model' | 'config' | 'tokenizer'

export interface HubOptions {
  /** HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, HF_HUB_CACHE and HF_HOME are read from here; by default `process.env`. */
  env?: Readonly<Record<string, string | undefined>>
  signal?: AbortSignal
  onEvent?: (event: HubEvent) => void
}

/**
 * The config with a path in place of each hub id that `needs` speaks of. What is a path already stays as it is.
 *
 * Throws `MODEL_FILES` where the hub or its cache has no such model, `CANCELLED`.
 */
export const localConfig = async (
  config: Config,
  needs: readonly Need[],
  options: HubOptions = {},
): Promise<Config> => {
  const { model_name_or_path: model, tokenizer_name: tokenizer, model_revision: revision } = config
  const local = async (value: string, need: Need): Promise<string> => {
    if (!isHubId(value)) return value
    // The hub's library takes longer to load than a config to read, and most paths need none of it.
    const { snapshotOf } = await import('./snapshot.js')
    return snapshotOf({ id: value, revision, need }, options)
  }
  const wantsTokenizer = needs.includes('tokenizer')
  const ofModel: Need | undefined =
    needs.find((need) => need !== 'tokenizer') ?? (tokenizer === null ? 'tokenizer' : undefined)
  return {
    ...config,
    model_name_or_path: ofModel === undefined ? model : await local(model, ofModel),
    tokenizer_name: wantsTokenizer && tokenizer !== null ? await local(tokenizer, 'tokenizer') : tokenizer,
  }
}

/** `org/name`, where there is no such path here. */
export const isHubId = (value: string): boolean =>
  /^[A-Za-z0-9_][\w.-]*\/[A-Za-z0-9_][\w.-]*$/.test(value) && !value.includes('..') && !existsSync(value)
