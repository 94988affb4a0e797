// What a run would need, and what the machine has: questions to the engine that load no weight.

import { type Config, planOptions } from '../config/index.js'
import { type HubOptions, localConfig } from '../hub/resolve.js'
import type { DoctorReport, Native, Plan } from '../native/contract.js'
import { unwrap } from '../native/errors.js'

/**
 * Bytes by kind and the time of a step, from the model's config, and from tensor headers where they are here: of a
 * model on the hub only the config is downloaded. Throws `MODEL_FILES`.
 */
export const planWith = async (
  engine: Pick<Native, 'plan'>,
  config: Config,
  hub: HubOptions = {},
): Promise<Plan> => {
  const options = planOptions(await localConfig(config, ['config'], hub))
  return JSON.parse(unwrap(await engine.plan(JSON.stringify(options))).json)
}

/** The machine: instruction sets, threads, memory, and speeds that are measured in about a second. */
export const examineWith = async (engine: Pick<Native, 'doctor'>): Promise<DoctorReport> =>
  JSON.parse(unwrap(await engine.doctor()).json)
