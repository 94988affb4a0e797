// The whole loop on the real engine against what the Transformers Trainer logged for the same rows and options.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { ConfigInput } from '../../ts/config/index.js'
import { native } from '../../ts/native/index.js'
import { folderOf } from '../folder.js'
import { sharedFolder, sharedTest } from '../shared.js'
import { collect, ofType } from './run.js'

type Line = { loss: number; grad_norm: number; learning_rate: number; epoch: number; step: number }

interface Golden {
  arguments: Pick<
    ConfigInput,
    | 'num_train_epochs'
    | 'per_device_train_batch_size'
    | 'gradient_accumulation_steps'
    | 'learning_rate'
    | 'weight_decay'
    | 'max_grad_norm'
    | 'logging_steps'
    | 'lr_scheduler_type'
    | 'warmup_steps'
  >
  log_history: [...Line[], { train_loss: number; epoch: number; step: number }]
}

const goldens = join(sharedFolder, 'goldens')

const readJson = <T>(...path: string[]): T => JSON.parse(readFileSync(join(goldens, ...path), 'utf8')) as T

/** The rows of the goldens, one after another. */
const givenRows = () => {
  const rows = readJson<{ input_ids: number[]; labels: number[] }[]>('trainer', 'rows.json')
  const offsets = [0]
  for (const { input_ids } of rows) offsets.push((offsets.at(-1) ?? 0) + input_ids.length)
  return {
    ids: Uint32Array.from(rows.flatMap((row) => row.input_ids)),
    labels: Int32Array.from(rows.flatMap((row) => row.labels)),
    offsets: Uint32Array.from(offsets),
  }
}

/** DESIGN §3: losses and norms of the Trainer's logs. */
const relative = 1e-5

const deviation = (actual: number, expected: number): number =>
  Math.abs(actual - expected) / Math.abs(expected)

for (const name of ['cosine', 'linear-ratio', 'constant']) {
  for (const packing of [true, false]) {
    const how = packing ? 'packed' : 'padded'
    sharedTest(test, `the log of goldens/trainer/${name}.json is reproduced, ${how}`, async (t) => {
      const golden = readJson<Golden>('trainer', `${name}.json`)
      const { num_train_epochs, per_device_train_batch_size, gradient_accumulation_steps } = golden.arguments
      const { learning_rate, weight_decay, max_grad_norm } = golden.arguments
      const { logging_steps, lr_scheduler_type, warmup_steps } = golden.arguments
      const events = await collect(
        await native(),
        {
          model_name_or_path: join(goldens, 'models/llama-gqa-tied'),
          output_dir: folderOf(t),
          num_train_epochs,
          per_device_train_batch_size,
          gradient_accumulation_steps,
          learning_rate,
          weight_decay,
          max_grad_norm,
          logging_steps,
          lr_scheduler_type,
          warmup_steps,
          packing,
        },
        { rows: { train: givenRows() }, order: 'as given' },
      )
      const lines = ofType(events, 'log').map(({ log }) => log)
      const expected = golden.log_history.slice(0, -1) as Line[]
      t.is(lines.length, expected.length)
      let worst = 0
      lines.forEach((line, index) => {
        const want = expected[index] as Line
        t.is(line.step, want.step)
        t.is(line.learning_rate, want.learning_rate)
        t.is(line.epoch, want.epoch)
        worst = Math.max(worst, deviation(line.loss, want.loss), deviation(line.grad_norm, want.grad_norm))
      })
      const closing = golden.log_history.at(-1) as { train_loss: number }
      const trainLoss = ofType(events, 'done')[0]?.log.train_loss ?? Number.NaN
      worst = Math.max(worst, deviation(trainLoss, closing.train_loss))
      t.log(`largest relative deviation ${worst.toExponential(2)}`)
      t.true(worst <= relative, `largest relative deviation ${worst}`)
    })
  }
}
