// One training, straight and broken at some steps, for every combination of method, optimizer, dropout and packing.
// Used by a test for a sample and by `npm run torture` for all of them.

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type ConfigInput, type Plan, type TrainEvent, train } from '../../ts/index.js'
import { rows, shortTemplate, writeRandomModel, writeTokenizer } from './model.js'

export const totalSteps = 20

export interface Combination {
  name: string
  /** Each method is in it with each optimizer, and the other options in turn. */
  inSample: boolean
  values: Partial<ConfigInput>
}

const optimizers = ['adamw_torch', 'adamw_8bit', 'paged_adamw_32bit', 'paged_adamw_8bit'] as const
const nf4 = { load_in_4bit: true, bnb_4bit_quant_type: 'nf4', bnb_4bit_use_double_quant: true } as const

/** So that weights, and the matrices of an adapter of rank 64, have the 4,096 values from which 8-bit state begins. */
const size = {
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  // The tokenizer's: another token finds no free row.
  vocab_size: 79,
}

/** Every combination that there is: without an adapter there is nothing to drop. */
export const combinations: Combination[] = (['full', 'LoRA', 'QLoRA'] as const).flatMap((method, at) =>
  optimizers.flatMap((optim, turn) => {
    const dropouts = method === 'full' ? [0] : [0, 0.2]
    const options = dropouts.flatMap((dropout) => [true, false].map((packing) => ({ dropout, packing })))
    return options.map(({ dropout: lora_dropout, packing }, option) => ({
      name: `${method}, ${optim}, dropout ${lora_dropout}, packing ${packing}`,
      inSample: option === (at + turn) % options.length,
      values: {
        optim,
        packing,
        ...(method === 'full'
          ? {}
          : { lora: { r: 64, target_modules: 'all-linear' as const, lora_dropout } }),
        ...(method === 'QLoRA' ? { quantization: nf4 } : {}),
      },
    }))
  }),
)

/** A config of 20 steps over two epochs and a bit, evaluated on the way; its files are made in `folder`. */
export const configIn = (folder: string, values: Partial<ConfigInput>) => {
  mkdirSync(folder, { recursive: true })
  const [data_path, eval_data_path] = ['rows.json', 'eval.json'].map((name) => join(folder, name)) as [
    string,
    string,
  ]
  writeFileSync(data_path, JSON.stringify(rows(17)))
  writeFileSync(eval_data_path, JSON.stringify(rows(3)))
  const model_name_or_path = writeRandomModel(join(folder, 'model'), size)
  writeTokenizer(model_name_or_path)
  if (values.special_tokens !== undefined) {
    // A tokenizer that names none of its tokens.
    writeFileSync(join(model_name_or_path, 'tokenizer_config.json'), '{}')
  }
  return {
    max_steps: totalSteps,
    gradient_accumulation_steps: 2,
    ...values,
    model_name_or_path,
    data_path,
    eval_data_path,
    output_dir: join(folder, 'out'),
    template: shortTemplate,
    per_device_train_batch_size: 1,
    learning_rate: 1e-3,
    lr_scheduler_type: 'cosine' as const,
    warmup_steps: 3,
    weight_decay: 0.01,
    logging_steps: 3,
    eval_strategy: 'steps' as const,
    eval_steps: 5,
    save_steps: 1000,
  } satisfies ConfigInput
}

/** Runs until the end, or until a signal that comes with step `until`. Returns the events. */
export const runUntil = async (config: ConfigInput, until: number): Promise<TrainEvent[]> => {
  const controller = new AbortController()
  const events: TrainEvent[] = []
  for await (const event of train(config, { signal: controller.signal })) {
    events.push(event)
    if (event.type === 'step' && event.step === until) controller.abort()
  }
  return events
}

/** The plan of a run that went through these events. */
const planIn = (events: readonly TrainEvent[]): Plan => {
  const [event] = events.filter((event) => event.type === 'plan')
  if (event === undefined) throw new Error('the run made no plan')
  return event.plan
}

/** The log without what depends on the clock, and without `total_flos`, which counts recomputation. */
const withoutTimes = (text: string): string =>
  text.replaceAll(/^ *"(\w+_runtime|\w+_per_second|total_flos)": .*\n/gm, '')

/** The files that the run ends with, by name: those of tensors as bytes, the log without times. */
export const resultOf = (outputDir: string): Map<string, string> => {
  const result = new Map<string, string>()
  for (const folder of ['.', `checkpoint-${totalSteps}`]) {
    for (const name of readdirSync(join(outputDir, folder)).sort()) {
      const path = join(outputDir, folder, name)
      if (name.endsWith('.safetensors')) result.set(`${folder}/${name}`, readFileSync(path, 'latin1'))
      if (name === 'trainer_state.json')
        result.set(`${folder}/${name}`, withoutTimes(readFileSync(path, 'utf8')))
    }
  }
  return result
}

/** The names of the files in which two results differ, or which only one of them has. */
export const differences = (one: Map<string, string>, other: Map<string, string>): string[] =>
  [...new Set([...one.keys(), ...other.keys()])].filter((name) => one.get(name) !== other.get(name))

/** Numbers in [0, 1) from a seed: the generator of Park and Miller. */
export const randomOf = (seed: number): (() => number) => {
  let state = (seed % 2_147_483_646) + 1
  const next = (): number => {
    state = (state * 48_271) % 2_147_483_647
    return state / 2_147_483_647
  }
  // Small seeds have small first numbers.
  for (let skipped = 0; skipped < 8; skipped++) next()
  return next
}

/** Three steps at which to break, in order. */
export const threePoints = (random: () => number): number[] => {
  const points = new Set<number>()
  while (points.size < 3) points.add(1 + Math.floor(random() * (totalSteps - 1)))
  return [...points].sort((a, b) => a - b)
}

/**
 * Runs `values` straight and broken at `points`, the last two parts in less memory. Returns the names of the
 * files that differ.
 */
export const brokenAndStraight = async (
  folder: string,
  values: Partial<ConfigInput>,
  points: readonly number[],
): Promise<string[]> => {
  const straight = configIn(join(folder, 'straight'), values)
  const { peakBytes, recomputedBlocks } = planIn(await runUntil(straight, Number.POSITIVE_INFINITY))
  // A byte less than the run takes: a block has to be computed again.
  const memory = [String(peakBytes - 1)]
  const broken = configIn(join(folder, 'broken'), values)
  for (const [part, until] of [...points, Number.POSITIVE_INFINITY].entries()) {
    const config = { ...broken, resume_from_checkpoint: part > 0, ...(part >= 2 ? { memory } : {}) }
    const events = await runUntil(config, until)
    const last = events.at(-1)
    if (Number.isFinite(until) && !(last?.type === 'interrupted' && last.step === until)) {
      throw new Error(`the run did not stop at step ${until}: ${JSON.stringify(last)}`)
    }
    const more = planIn(events).recomputedBlocks - recomputedBlocks
    if (more > 0 !== part >= 2) throw new Error(`part ${part} recomputes ${more} blocks more`)
  }
  const [one, other] = [straight, broken].map(({ output_dir }) => resultOf(String(output_dir)))
  // Weights twice, the optimizer's state, the log twice.
  if (one === undefined || other === undefined || one.size !== 5) throw new Error('files are missing')
  const state = one.get(`checkpoint-${totalSteps}/optimizer.safetensors`) ?? ''
  if (state.includes('"U8"') !== /8bit/.test(values.optim ?? ''))
    throw new Error('the state has another type')
  return differences(one, other)
}
