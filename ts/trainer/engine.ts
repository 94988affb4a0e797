// What the trainer asks of the engine: the part of the bridge that it calls, and the JSON that crosses it.
// The types repeat the contract of crates/node so that the loop can be driven by a recorded engine in tests;
// `ts/native` is checked against them by the compiler. Never loads the addon and never throws.

/** An expected failure, as the bridge returns it. */
export interface EngineFailure {
  readonly error: { readonly code: string; readonly message: string; readonly hint: string }
}

export interface TokenizerInfo {
  vocabSize: number
  eosToken?: string
  eosId?: number
  padToken?: string
  padId?: number
}

export interface RowOptions {
  modelMaxLength: number
  appendEos: boolean
  maskSource: boolean
}

/**
 * Rows of token ids, one after another: row r is `ids[offsets[r]..offsets[r+1]]`. Labels are not shifted,
 * −100 where masked. `cut` and `unsupervised` are row numbers, 0-based.
 */
export interface EncodedRows {
  ids: Uint32Array
  labels: Int32Array
  offsets: Uint32Array
  cut: Uint32Array
  unsupervised: Uint32Array
}

export interface TokenizerHandle {
  info(): TokenizerInfo
  encodeRows(sources: string[], targets: string[], options: RowOptions): Promise<EncodedRows | EngineFailure>
  save(dir: string): Promise<object | EngineFailure>
}

/**
 * The sequences of one optimizer step. Sequence s is `ids[seqStarts[s]..seqStarts[s+1]]`; `microStarts` cuts the
 * sequences into micro-batches: `[0, …, S]`.
 */
export interface StepBatch {
  ids: Uint32Array
  labels: Int32Array
  seqStarts: Uint32Array
  microStarts: Uint32Array
}

export interface StepReport {
  loss: number
  gradNorm: number
  tokens: number
  supervisedTokens: number
  ms: number
}

export interface LossReport {
  lossSum: number
  supervisedTokens: number
}

export interface SessionHandle {
  load(): Promise<{ json: string } | EngineFailure>
  progress(): { done: number; total: number }
  step(batch: StepBatch, learningRate: number): Promise<StepReport | EngineFailure>
  evaluate(batch: StepBatch): Promise<LossReport | EngineFailure>
  saveAdapter(dir: string, baseModelName: string): Promise<object | EngineFailure>
  saveModel(dir: string): Promise<object | EngineFailure>
  cancel(): void
  close(): Promise<void>
}

/** The engine as the trainer sees it; `ts/native` is one. */
export interface Engine {
  openTokenizer(modelPath: string): Promise<TokenizerHandle | EngineFailure>
  plan(optionsJson: string): Promise<{ json: string } | EngineFailure>
  openSession(optionsJson: string): SessionHandle
}

/** Options of a session, as one JSON string. */
export interface EngineOptions {
  /** A model folder or a .gguf file. */
  model: string
  computeDtype: 'f32' | 'bf16'
  /** null: all. */
  threads: number | null
  seed: number
  method: MethodOptions
  /** A PEFT folder to load; null: none. */
  adapter: string | null
  optimizer: {
    beta1: number
    beta2: number
    eps: number
    weightDecay: number
    /** 0: no clipping. */
    maxGradNorm: number
  }
  /** null: as the memory plan decides. */
  gradientCheckpointing: boolean | null
  /** null: what the machine has free. */
  memoryBytes: number | null
  plan: { seqLength: number; microBatch: number; gradientAccumulation: number }
}

export type MethodOptions =
  | { kind: 'none' }
  | { kind: 'full' }
  | {
      kind: 'lora'
      r: number
      loraAlpha: number
      loraDropout: number
      targetModules: 'all-linear' | string[] | null
      bias: 'none' | 'all' | 'lora_only'
      modulesToSave: string[]
      useRslora: boolean
    }

/** What `plan` computes from the config and the tensor headers alone. */
export interface Plan {
  bytes: {
    weights: number
    adapter: number
    gradients: number
    optimizer: number
    activations: number
    scratch: number
  }
  peakBytes: number
  budgetBytes: number
  fits: boolean
  recomputedBlocks: number
  nBlocks: number
  trainableParams: number
  allParams: number
  flopsPerToken: number
  stepSeconds: number | null
  suggestions: string[]
}

/** What a loaded session says of itself. */
export interface SessionInfo {
  trainableParams: number
  allParams: number
  modelType: string
  vocabSize: number
  maxPositions: number
  linearModules: string[]
  threads: number
  isa: string
  plan: Plan
}
