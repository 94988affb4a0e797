// The shapes that cross the bridge, as plain types. Holds no default, no range and no words for people.

/** What the engine can report. `native.d.ts` declares the same names as a string enum. */
export type NativeCode =
  | 'INTERNAL'
  | 'CONFIG'
  | 'DATA'
  | 'MODEL_FILES'
  | 'MEMORY'
  | 'DEVICE'
  | 'DIVERGED'
  | 'OUTPUT'
  | 'CANCELLED'

export interface NativeError {
  code: NativeCode
  message: string
  hint: string
}
export interface Failed {
  error: NativeError
}

export interface TokenizerInfo {
  vocabSize: number
  bosToken?: string
  bosId?: number
  eosToken?: string
  eosId?: number
  padToken?: string
  padId?: number
  unkToken?: string
  unkId?: number
  hasChatTemplate: boolean
}
export interface RowOptions {
  modelMaxLength: number
  appendEos: boolean
  maskSource: boolean
}
/** Row r is ids[offsets[r]..offsets[r+1]]; labels −100 where masked, not shifted. cut, unsupervised: row numbers from 0. */
export interface EncodedRows {
  ids: Uint32Array
  labels: Int32Array
  offsets: Uint32Array
  cut: Uint32Array
  unsupervised: Uint32Array
}
export interface Tokenizer {
  info(): TokenizerInfo
  encodeRows(sources: string[], targets: string[], options: RowOptions): Promise<EncodedRows | Failed>
  encode(text: string, addSpecialTokens: boolean): Promise<Uint32Array | Failed>
  decode(ids: Uint32Array, skipSpecial: boolean): Promise<{ text: string } | Failed>
  tokenTexts(ids: Uint32Array): Promise<{ texts: string[] } | Failed>
  applyChatTemplate(messagesJson: string, addGenerationPrompt: boolean): Promise<{ text: string } | Failed>
  save(dir: string): Promise<{ done: boolean } | Failed>
  /** JSON of { pad_token, eos_token, bos_token, unk_token }, as Transformers' add_special_tokens takes it. */
  addSpecialTokens(tokensJson: string): Promise<TokenizerInfo | Failed>
}

/**
 * The sequences of one optimizer step: sequence s is ids[seqStarts[s]..seqStarts[s+1]];
 * microStarts cuts the sequences into micro-batches: [0, …, S]. Labels are not shifted, −100 masked.
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
export interface Session {
  /** JSON of SessionInfo. */
  load(): Promise<{ json: string } | Failed>
  /** Bytes while loading, blocks while stepping. */
  progress(): { done: number; total: number }
  step(batch: StepBatch, learningRate: number): Promise<StepReport | Failed>
  evaluate(batch: StepBatch): Promise<LossReport | Failed>
  /** The new ids only. */
  generate(ids: Uint32Array, optionsJson: string): Promise<{ ids: Uint32Array } | Failed>
  saveAdapter(dir: string, baseModelName: string): Promise<{ done: boolean } | Failed>
  saveModel(dir: string): Promise<{ done: boolean } | Failed>
  /** The model with what was quantised in bitsandbytes' form. */
  saveQuantized(dir: string): Promise<{ done: boolean } | Failed>
  /** JSON of Checked: reads back what saveAdapter, saveModel or saveQuantized wrote to dir; OUTPUT where it is not what is in memory. */
  checkSaved(dir: string): Promise<{ json: string } | Failed>
  /** Weights and optimizer's state, into the folder of an unfinished checkpoint. Works after `cancel`, too. */
  saveState(dir: string, baseModelName: string): Promise<{ done: boolean } | Failed>
  loadState(dir: string): Promise<{ done: boolean } | Failed>
  /** Stops what runs at the next block: it answers with the code CANCELLED, and so does every later call that computes. */
  cancel(): void
  close(): Promise<{ done: boolean } | Failed>
}

/** The addon. */
export interface Native {
  openTokenizer(modelPath: string): Promise<Tokenizer | Failed>
  /** JSON of Plan: from config and tensor headers alone, nothing loaded. */
  plan(optionsJson: string): Promise<{ json: string } | Failed>
  /** JSON of DoctorReport: measures about a second. */
  doctor(): Promise<{ json: string } | Failed>
  openSession(optionsJson: string): Session
}

/** What training touches. */
export type Method =
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

/** Linears of the blocks kept in 4 or 8 bits, without those that skipModules names. */
export type Quantization =
  | {
      kind: 'fourBits'
      quantType: 'nf4' | 'fp4'
      doubleQuant: boolean
      blockSize: number
      skipModules: string[]
    }
  | { kind: 'int8'; skipModules: string[] }

/** AdamW. */
export interface OptimizerOptions {
  /** torch's AdamW, and bitsandbytes' with 32 and with 8 bits of state. */
  kind: 'adamw' | 'adamw32bit' | 'adamw8bit'
  /** The state lies in a mapped file, which the system may evict from memory. */
  paged: boolean
  /** The folder of that file; null: the system's temporary folder. */
  stateDir: string | null
  beta1: number
  beta2: number
  eps: number
  weightDecay: number
  /** 0: no clipping. */
  maxGradNorm: number
}

/** The options of `plan` and `openSession`, as JSON. */
export interface EngineOptions {
  /** Folder or .gguf file. */
  model: string
  computeDtype: 'f32' | 'bf16'
  /** null: all. */
  threads: number | null
  seed: number
  method: Method
  /** null: frozen weights keep the type that they are stored in. */
  quantization: Quantization | null
  /** Where weights that were quantised are kept between starts, a null folder in the user's cache; null: nowhere. */
  quantizedCache: { dir: string | null } | null
  /** A PEFT folder to load. */
  adapter: string | null
  optimizer: OptimizerOptions
  /** null: as the memory plan decides. */
  gradientCheckpointing: boolean | null
  /** null: what the machine has free. */
  memoryBytes: number | null
  plan: { seqLength: number; microBatch: number; gradientAccumulation: number }
  /** What `plan` is asked, for which the model's config is enough; null in training. */
  question: PlanQuestion | null
  /** Rows that embedding and head need at least; null: as many as the files have. */
  vocabRows: number | null
  /** With an adapter; auto: where they are not those of the model's files. */
  saveEmbeddingLayers: 'auto' | 'always' | 'never'
  /** What the config of a model that is written says of the tokenizer; null: what it says already. */
  tokenIds: { pad: number | null; eos: number | null; bos: number | null }
}

/** A machine that is not this one. */
export interface PlanQuestion {
  /** Bytes of each device's memory, in order. null: this machine. */
  devices: number[] | null
  /** What a host beside such devices holds. null: nothing. */
  offload: { optimizer: boolean; params: boolean } | null
}

export interface PlanBytes {
  weights: number
  adapter: number
  gradients: number
  optimizer: number
  activations: number
  scratch: number
}

export interface DevicePlan {
  bytes: PlanBytes
  peakBytes: number
  budgetBytes: number
  /** From 0. */
  firstBlock: number
  nBlocks: number
  embedding: boolean
  head: boolean
}

export interface Plan {
  /** Of all devices together. */
  bytes: PlanBytes
  /** What of them are pages of mapped files. */
  mapped: { weights: number; optimizer: number }
  /** Of the files that the run writes: the result, and each checkpoint. */
  saved: { result: number; checkpoint: number }
  peakBytes: number
  budgetBytes: number
  /** Each device's share fits it. */
  fits: boolean
  devices: DevicePlan[]
  /** What the host holds beside cards; null where no cards were asked about. */
  host: PlanBytes | null
  /** What told the weights' types: their files' headers, or config.json alone. */
  countedFrom: 'headers' | 'config'
  /** The first so many blocks are computed again in backward. */
  recomputedBlocks: number
  /** Those keep what attention made. */
  keepsAttention: boolean
  nBlocks: number
  vocabSize: number
  tiedHead: boolean
  trainableParams: number
  allParams: number
  flopsPerToken: number
  stepSeconds: number | null
  suggestions: string[]
}

export interface SessionInfo {
  trainableParams: number
  allParams: number
  modelType: string
  vocabSize: number
  /** Rows that the model's files have. */
  storedVocabSize: number
  maxPositions: number
  linearModules: string[]
  /** How weights are quantised that the files hold in 4 or 8 bits. */
  storedQuantized: { tensors: number; code: 'nf4' | 'fp4' | 'int8'; doubleQuant: boolean } | null
  /** Where quantised weights came from, or are kept; null where there are none to keep. */
  quantizedCache: {
    path: string
    bytes: number
    outcome: 'read' | 'written' | 'failed'
    /** Why nothing could be kept; where something was, why an old entry could not be removed. */
    reason: string | null
    /** Old entries that made room for this one. */
    removed: number
    removedBytes: number
  } | null
  /** Tensors of the files that the architecture has no place for: they are not read. */
  unusedTensors: string[]
  /** End tokens that generation_config.json, or else config.json, names. */
  eosIds?: number[]
  threads: number
  isa: string
  /** What a checkpoint knows the base model by. */
  fingerprint: string
  plan: Plan
}

/** What was read back from disk. The deviation is the largest of the logits' from those in memory. */
export interface Checked {
  what: 'adapter' | 'model'
  largestDeviation: number
  bound: number
}

export interface DoctorReport {
  cpu: string
  isas: string[]
  isa: string
  threads: number
  memoryTotalBytes: number
  memoryFreeBytes: number
  peakGflopsF32: number
  peakGflopsBf16: number
  gemmGflopsF32: number
  gemmGflopsBf16: number
  copyGbPerS: number
}

export interface GenerateOptions {
  maxNewTokens: number
  doSample: boolean
  temperature: number
  topK: number
  topP: number
  repetitionPenalty: number
  seed: number
  eosIds: number[]
  adapterEnabled: boolean
}
