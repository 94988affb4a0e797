// From a config to the engine's options: names change, values don't. The only place that knows both.

import type { EngineOptions, GenerateOptions, Method } from '../native/contract.js'
import { parseBytes } from './memory.js'
import type { SamplingConfig } from './options/sampling.js'
import type { Config } from './schema.js'

/** What is trained: the adapter where the config has a section `lora`, else every parameter. */
export const methodOf = ({ lora }: Config): Method =>
  lora === null
    ? { kind: 'full' }
    : {
        kind: 'lora',
        r: lora.r,
        loraAlpha: lora.lora_alpha,
        loraDropout: lora.lora_dropout,
        targetModules: lora.target_modules,
        bias: lora.bias,
        modulesToSave: lora.modules_to_save,
        useRslora: lora.use_rslora,
      }

/**
 * The options of `plan` and `openSession`.
 *
 * A list in `memory` stands for several devices; one engine takes the first.
 */
export const engineOptions = (config: Config): EngineOptions => ({
  model: config.model_name_or_path,
  computeDtype: config.bf16 ? 'bf16' : 'f32',
  threads: config.threads,
  seed: config.seed,
  method: methodOf(config),
  adapter: null,
  optimizer: {
    beta1: config.adam_beta1,
    beta2: config.adam_beta2,
    eps: config.adam_epsilon,
    weightDecay: config.weight_decay,
    maxGradNorm: config.max_grad_norm,
  },
  gradientCheckpointing: config.gradient_checkpointing,
  memoryBytes: config.memory?.[0] === undefined ? null : parseBytes(config.memory[0]),
  plan: {
    seqLength: config.model_max_length,
    microBatch: config.per_device_train_batch_size,
    gradientAccumulation: config.gradient_accumulation_steps,
  },
})

/** The part of the options of `generate` that people choose. */
export const samplingOf = (
  sampling: SamplingConfig,
): Omit<GenerateOptions, 'seed' | 'eosIds' | 'adapterEnabled'> => ({
  maxNewTokens: sampling.max_new_tokens,
  doSample: sampling.do_sample,
  temperature: sampling.temperature,
  topK: sampling.top_k,
  topP: sampling.top_p,
  repetitionPenalty: sampling.repetition_penalty,
})
