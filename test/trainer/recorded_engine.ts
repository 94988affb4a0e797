// An engine for tests of the loop: it keeps what it is asked and answers what the test says. It computes nothing.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type {
  EngineOptions,
  Failed,
  NativeCode,
  Plan,
  SessionInfo,
  StepBatch,
  StepReport,
} from '../../ts/native/contract.js'
import type { TrainEngine } from '../../ts/trainer/train.js'

export const plan: Plan = {
  bytes: { weights: 1, adapter: 2, gradients: 3, optimizer: 4, activations: 5, scratch: 6 },
  peakBytes: 21,
  budgetBytes: 100,
  fits: true,
  mapped: { weights: 0, optimizer: 0 },
  devices: [],
  host: null,
  saved: { result: 40, checkpoint: 44 },
  countedFrom: 'headers',
  vocabSize: 128,
  tiedHead: false,
  recomputedBlocks: 0,
  keepsAttention: false,
  nBlocks: 2,
  trainableParams: 10,
  allParams: 100,
  flopsPerToken: 7,
  stepSeconds: null,
  suggestions: ['lora.r 2'],
}

export const failed = (code: NativeCode): Failed => ({ error: { code, message: 'as told', hint: 'h' } })

export interface Answers {
  plan?: Plan
  info?: Partial<SessionInfo>
  /** How often `progress` is asked before the session is loaded. */
  loadPolls?: number
  /** How often `progress` is asked before each call that saves, restores or reads back answers. */
  savePolls?: number
  /** The answer to step `index`, from 0. */
  step?: (index: number, batch: StepBatch) => StepReport | Failed | Promise<StepReport | Failed>
  saveAdapter?: Failed
  checkSaved?: Failed
  saveState?: Failed
}

/** What the engine was asked, in order. */
export interface Asked {
  calls: string[]
  options: EngineOptions[]
  batches: StepBatch[]
  evaluated: StepBatch[]
  rates: number[]
}

const count = (batch: StepBatch): number => batch.labels.filter((label) => label !== -100).length

export const report = (loss: number, batch: StepBatch): StepReport => ({
  loss,
  gradNorm: loss * 2,
  tokens: batch.ids.length,
  supervisedTokens: count(batch),
  ms: 10,
})

const deferred = (): { promise: Promise<void>; resolve: () => void } => {
  let resolve = (): void => undefined
  const promise = new Promise<void>((done) => {
    resolve = done
  })
  return { promise, resolve }
}

export const recordedEngine = (answers: Answers = {}): { engine: TrainEngine; asked: Asked } => {
  const asked: Asked = { calls: [], options: [], batches: [], evaluated: [], rates: [] }
  const json = (value: unknown) => ({ json: JSON.stringify(value) })
  const engine: TrainEngine = {
    async openTokenizer(path) {
      asked.calls.push(`openTokenizer ${path}`)
      return {
        info: () => ({ vocabSize: 128, hasChatTemplate: false, padId: 0 }),
        async encodeRows(sources) {
          // Two tokens a row, the second supervised.
          const offsets = Uint32Array.from({ length: sources.length + 1 }, (_, i) => 2 * i)
          const ids = Uint32Array.from({ length: 2 * sources.length }, (_, i) => i)
          const labels = Int32Array.from(ids, (id) => (id % 2 === 0 ? -100 : id))
          return { ids, labels, offsets, cut: new Uint32Array(), unsupervised: new Uint32Array() }
        },
        async save(dir) {
          asked.calls.push('tokenizer.save')
          writeFileSync(join(dir, 'tokenizer.json'), '{}')
          return { done: true }
        },
        encode: async () => failed('INTERNAL'),
        decode: async () => failed('INTERNAL'),
        tokenTexts: async () => failed('INTERNAL'),
        applyChatTemplate: async () => failed('INTERNAL'),
        addSpecialTokens: async () => failed('INTERNAL'),
      }
    },
    async plan(options) {
      asked.calls.push('plan')
      asked.options.push(JSON.parse(options))
      return json(answers.plan ?? plan)
    },
    openSession() {
      asked.calls.push('openSession')
      const { promise: polledEnough, resolve } = deferred()
      let pollsLeft = answers.loadPolls ?? 0
      if (pollsLeft === 0) resolve()
      let enough: (() => void) | undefined
      const polledAgain = async (): Promise<void> => {
        pollsLeft = answers.savePolls ?? 0
        const { promise, resolve } = deferred()
        enough = resolve
        if (pollsLeft > 0) await promise
      }
      return {
        async load() {
          asked.calls.push('load')
          await polledEnough
          return json({
            modelType: 'llama',
            trainableParams: 10,
            allParams: 100,
            linearModules: [],
            threads: 1,
            isa: 'portable',
            vocabSize: 128,
            storedVocabSize: 128,
            maxPositions: 64,
            storedQuantized: null,
            quantizedCache: null,
            unusedTensors: [],
            fingerprint: '0123456789abcdef',
            plan,
            ...answers.info,
          })
        },
        progress() {
          pollsLeft -= 1
          if (pollsLeft === 0) (enough ?? resolve)()
          return { done: 25, total: 100 }
        },
        async step(batch, learningRate) {
          const index = asked.batches.length
          asked.calls.push('step')
          asked.batches.push(batch)
          asked.rates.push(learningRate)
          return answers.step ? answers.step(index, batch) : report(index + 1, batch)
        },
        async evaluate(batch) {
          asked.calls.push('evaluate')
          asked.evaluated.push(batch)
          return { lossSum: 3 * count(batch), supervisedTokens: count(batch) }
        },
        generate: async () => failed('INTERNAL'),
        async saveAdapter(dir, base) {
          asked.calls.push(`saveAdapter ${base}`)
          await polledAgain()
          if (answers.saveAdapter) return answers.saveAdapter
          writeFileSync(join(dir, 'adapter_config.json'), '{}')
          return { done: true }
        },
        async saveState(dir, base) {
          asked.calls.push(`saveState ${base}`)
          await polledAgain()
          if (answers.saveState) return answers.saveState
          writeFileSync(join(dir, 'optimizer.safetensors'), String(asked.batches.length))
          return { done: true }
        },
        async loadState(dir) {
          asked.calls.push(`loadState ${readFileSync(join(dir, 'optimizer.safetensors'))}`)
          await polledAgain()
          return { done: true }
        },
        async saveModel(dir) {
          asked.calls.push('saveModel')
          await polledAgain()
          writeFileSync(join(dir, 'config.json'), '{}')
          return { done: true }
        },
        async saveQuantized() {
          asked.calls.push('saveQuantized')
          return { done: true }
        },
        async checkSaved() {
          asked.calls.push('checkSaved')
          await polledAgain()
          return answers.checkSaved ?? json({ what: 'adapter', largestDeviation: 0, bound: 0 })
        },
        cancel: () => {
          asked.calls.push('cancel')
        },
        async close() {
          asked.calls.push('close')
          return { done: true }
        },
      }
    },
  }
  return { engine, asked }
}
