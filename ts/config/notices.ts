// What a config's reader should know: what has no effect, what is refused.

import { LoraTrainError } from '../native/errors.js'
import { type Given, told } from './origin.js'
import { lasting } from './refused.js'
import { missing, type Resolved } from './resolve.js'
import type { Purpose } from './rules.js'
import type { TrainConfig } from './schema.js'

/** Where the option, or the first option of the section, was given. */
const originOf = ({ origins }: Resolved, option: string): Given | undefined => {
  const own = origins.get(option)
  if (own !== undefined) return own
  return [...origins].find(([id]) => id.startsWith(`${option}.`))?.[1]
}

/**
 * One sentence for each option that was given and does less than it says.
 *
 * @example
 * notices(resolveValues({ model_name_or_path: './m', device_map: 'auto' }))
 * // ['device_map has no effect: there is one device']
 */
export const notices = (resolved: Resolved): string[] => [
  ...resolved.said,
  ...resolved.ignored.map(({ id, origin, why }) => `${told(id, origin)} has no effect: ${why}`),
  ...lasting
    .filter(
      ({ refuse, when, option }) =>
        !refuse && originOf(resolved, option) !== undefined && when(resolved.config),
    )
    .map(({ say, option }) => `${placed(resolved, option)}${say(resolved.config)}`),
]

/** The refusals that `checkOffered` would throw, without throwing: `lora-train config` shows them all. */
export const refusals = (resolved: Resolved, purpose: Purpose = 'computing'): LoraTrainError[] =>
  lasting
    .filter(({ refuse, when }) => refuse && when(resolved.config))
    .filter(({ unless }) => unless !== purpose)
    .map(
      ({ say, option, hint }) =>
        new LoraTrainError('CONFIG', `${placed(resolved, option)}${say(resolved.config)}`, hint),
    )

/** Throws `CONFIG` where the config asks for what is not offered, or not built yet. */
export const checkOffered = (resolved: Resolved, purpose: Purpose = 'computing'): void => {
  const [first] = refusals(resolved, purpose)
  if (first !== undefined) throw first
}

/** The config of a training run. Throws `CONFIG` where it lacks rows, a place for results, or asks for too much. */
export const forTraining = (resolved: Resolved): TrainConfig => {
  checkOffered(resolved)
  const { config } = resolved
  const { data_path, output_dir } = config
  if (data_path === null) throw missing('data_path')
  if (output_dir === null) throw missing('output_dir')
  return { ...config, data_path, output_dir }
}

/** `run.yaml:3: `, where a file is the place. */
const placed = (resolved: Resolved, option: string): string => {
  const origin = originOf(resolved, option)
  const isInFile = origin?.from === 'file' || origin?.from === 'deepspeed'
  return isInFile ? `${origin.file}:${origin.line}: ` : ''
}
