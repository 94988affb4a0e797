// From a config to the engine's options: names change, values don't. The only place that knows both.

import type {
  EngineOptions,
  GenerateOptions,
  Method,
  OptimizerOptions,
  Quantization,
} from '../native/contract.js'
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

/** Values that share one maximum in bitsandbytes' 4-bit layers. */
const BLOCK_SIZE = 64

/** How the frozen linears are kept: null as they are stored. */
const quantizationOf = ({ quantization }: Config): Quantization | null => {
  const skipModules = quantization?.llm_int8_skip_modules ?? []
  if (quantization?.load_in_4bit === true)
    return {
      kind: 'fourBits',
      quantType: quantization.bnb_4bit_quant_type,
      doubleQuant: quantization.bnb_4bit_use_double_quant,
      blockSize: BLOCK_SIZE,
      skipModules,
    }
  return quantization?.load_in_8bit === true ? { kind: 'int8', skipModules } : null
}

/** Where they are kept between starts: null nowhere, a null folder in the user's cache. */
const quantizedCacheOf = ({ quantized_cache_dir: dir }: Config): EngineOptions['quantizedCache'] =>
  dir === 'none' ? null : { dir: dir === 'auto' ? null : dir }

/** With 4-bit weights it is bnb_4bit_compute_dtype that says what they are multiplied in. */
const computeDtypeOf = ({ bf16, quantization }: Config): 'f32' | 'bf16' => {
  const rounds =
    quantization?.load_in_4bit === true ? quantization.bnb_4bit_compute_dtype === 'bfloat16' : bf16
  return rounds ? 'bf16' : 'f32'
}

const saveEmbeddingLayersOf = ({ lora }: Config): EngineOptions['saveEmbeddingLayers'] => {
  if (lora === null || lora.save_embedding_layers === 'auto') return 'auto'
  return lora.save_embedding_layers ? 'always' : 'never'
}

/** Which arithmetic an `optim` is, and whether its state lies in a mapped file. */
const optimizers: Record<Config['optim'], Pick<OptimizerOptions, 'kind' | 'paged'>> = {
  adamw_torch: { kind: 'adamw', paged: false },
  adamw_8bit: { kind: 'adamw8bit', paged: false },
  paged_adamw_8bit: { kind: 'adamw8bit', paged: true },
  paged_adamw_32bit: { kind: 'adamw32bit', paged: true },
}

/** The options of `openSession`, which computes on one device. */
export const engineOptions = (config: Config): EngineOptions => ({
  model: config.model_name_or_path,
  computeDtype: computeDtypeOf(config),
  threads: config.threads,
  seed: config.seed,
  method: methodOf(config),
  quantization: quantizationOf(config),
  quantizedCache: quantizedCacheOf(config),
  adapter: null,
  optimizer: {
    ...optimizers[config.optim],
    stateDir: config.output_dir,
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
  question: null,
  vocabRows: null,
  saveEmbeddingLayers: saveEmbeddingLayersOf(config),
  tokenIds: { pad: null, eos: null, bos: null },
})

/** The options of `plan` where it is asked about a machine: sizes that are given are those of its devices. */
export const planOptions = (config: Config): EngineOptions => {
  const [optimizer, params] = [config.offload_optimizer, config.offload_param].map((to) => to !== 'none')
  const offloads = optimizer === true || params === true
  return {
    ...engineOptions(config),
    question: {
      devices: config.memory?.map(parseBytes) ?? null,
      offload: offloads ? { optimizer: optimizer === true, params: params === true } : null,
    },
  }
}

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
