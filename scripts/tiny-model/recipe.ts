// The recipe of the tiny model: how much text, which seeds, how it is pre-trained. `make.ts` follows it; tests read it.

import { MAX_LENGTH } from './architecture.js'
import { pretrainingText } from './pretraining.js'
import { seededRandom } from './random.js'
import { heldOutRows, type Row, trainRows } from './rows.js'

const SEEDS = { text: 1, train: 2, heldOut: 3, weights: 4 } as const
const TEXTS = 40_000
const TRAIN_ROWS = 1500
const HELD_OUT_ROWS = 150

export const VOCAB_SIZE = 1152
/** The tokenizer learns from so many of the texts, and from the training rows. */
export const TOKENIZER_TEXTS = 4000

export const weightsRandom = () => seededRandom(SEEDS.weights)

export function makeTexts(): string[] {
  const random = seededRandom(SEEDS.text)
  return Array.from({ length: TEXTS }, () => pretrainingText(random))
}

export const makeTrainRows = (): Row[] => trainRows(seededRandom(SEEDS.train), TRAIN_ROWS)
export const makeHeldOutRows = (): Row[] => heldOutRows(seededRandom(SEEDS.heldOut), HELD_OUT_ROWS)

/** Every parameter of the random model in `model`, on the texts in `data`. */
export const pretrainingConfig = (model: string, data: string, output: string) => ({
  model_name_or_path: model,
  data_path: data,
  output_dir: output,
  model_max_length: MAX_LENGTH,
  // A text is its first word and the rest, and all of it is supervised.
  template: { prompt_input: '{instruction}', prompt_no_input: '{instruction}' },
  train_on_source: true,
  per_device_train_batch_size: 8,
  gradient_accumulation_steps: 1,
  num_train_epochs: 1,
  learning_rate: 3e-3,
  lr_scheduler_type: 'cosine' as const,
  warmup_steps: 50,
  weight_decay: 0.01,
  adam_beta2: 0.95,
  max_grad_norm: 1,
  logging_steps: 100,
  save_strategy: 'no' as const,
  seed: 5,
})
