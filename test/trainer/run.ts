// A small run on an engine that is given, and what it yields.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { type Config, type ConfigInput, resolveValues } from '../../ts/config/index.js'
import { LoraTrainError } from '../../ts/native/errors.js'
import type { TrainEvent } from '../../ts/trainer/events.js'
import { type RunOptions, type TrainEngine, trainWith } from '../../ts/trainer/train.js'
import { folderOf } from '../folder.js'

export const config = (values: ConfigInput): Config => resolveValues(values).config

/** `rows` rows in a file, and options of one epoch over them in steps of two rows. */
export const base = (t: ExecutionContext, rows = 6) => {
  const folder = folderOf(t)
  const data_path = join(folder, 'rows.jsonl')
  const row = JSON.stringify({ instruction: 'i', input: '', output: 'o' })
  writeFileSync(data_path, `${row}\n`.repeat(rows))
  return {
    model_name_or_path: './the/model',
    data_path,
    output_dir: join(folder, 'out', 'run'),
    num_train_epochs: 1,
    per_device_train_batch_size: 1,
    gradient_accumulation_steps: 2,
    logging_steps: 1,
    save_strategy: 'no' as const,
    lora: {},
  }
}

export const collect = async (engine: TrainEngine, values: ConfigInput, options?: RunOptions) => {
  const events: TrainEvent[] = []
  for await (const event of trainWith(engine, config(values), options)) events.push(event)
  return events
}

export const refusal = async (t: ExecutionContext, run: () => Promise<unknown>): Promise<LoraTrainError> =>
  (await t.throwsAsync(run, { instanceOf: LoraTrainError })) as LoraTrainError

export const ofType = <Type extends TrainEvent['type']>(events: TrainEvent[], type: Type) =>
  events.filter((event): event is Extract<TrainEvent, { type: Type }> => event.type === type)
