// What a rule about a whole config looks like: used for what is not offered, or has no effect.

import type { Config } from './schema.js'

/** What a config is for: to compute with it, to ask what that would take, to write a model in few bits. */
export type Purpose = 'computing' | 'planning' | 'quantizing'

export interface Rule {
  /** The option or section that is spoken of; its place is named with the message. */
  option: string
  /** Whether the rule speaks. Rules that only inform speak only where the option was given. */
  when: (config: Config) => boolean
  say: (config: Config) => string
  /** What to do; empty where nothing needs doing. */
  hint: string
  /** Refused with exit status 2, or said once. */
  refuse: boolean
  /** Not a rule of what is done for this. */
  unless?: Purpose
}
