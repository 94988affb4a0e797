// The schedule against what the Transformers Trainer logged, to the bit.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { ConfigSchema } from '../../ts/config/index.js'
import {
  epochAfter,
  intervalOf,
  learningRateAt,
  runLength,
  type SchedulerType,
  warmupStepsOf,
} from '../../ts/trainer/schedule.js'
import { sharedFolder, sharedTest } from '../shared.js'

interface Golden {
  arguments: {
    num_train_epochs: number
    per_device_train_batch_size: number
    gradient_accumulation_steps: number
    learning_rate: number
    lr_scheduler_type: SchedulerType
    warmup_steps: number
  }
  log_history: { learning_rate?: number; epoch: number; step: number }[]
}

for (const name of ['cosine', 'linear-ratio', 'constant']) {
  sharedTest(test, `learning rates and epochs of goldens/trainer/${name}.json are equal`, (t) => {
    const golden = JSON.parse(
      readFileSync(join(sharedFolder, 'goldens/trainer', `${name}.json`), 'utf8'),
    ) as Golden
    const options = { ...golden.arguments, max_steps: -1, warmup_ratio: null }
    const length = runLength(26, options)
    t.deepEqual(length, { microBatchesPerEpoch: 13, stepsPerEpoch: 5, totalSteps: 15, epochs: 3 })
    const schedule = {
      type: options.lr_scheduler_type,
      learningRate: options.learning_rate,
      warmupSteps: warmupStepsOf(length.totalSteps, options),
      totalSteps: length.totalSteps,
    }
    const logged = golden.log_history.filter(({ step }, index) => index === step - 1)
    t.is(logged.length, 15)
    for (const { learning_rate, epoch, step } of logged) {
      t.is(learning_rate, learningRateAt(schedule, step - 1), `learning rate of step ${step}`)
      const epochsDone = Math.floor((step - 1) / 5)
      t.is(epochAfter(epochsDone, step - 5 * epochsDone, 3, 13), epoch, `epoch of step ${step}`)
    }
  })
}

test('the published learning rate at 4028 of 4030 steps, to the last digit', (t) => {
  const schedule = { type: 'cosine', learningRate: 2e-5, warmupSteps: 2, totalSteps: 4030 } as const
  t.is(learningRateAt(schedule, 4028), 1.2166081717612798e-11)
  t.is(learningRateAt(schedule, 4030), 0)
  t.is(learningRateAt(schedule, 2), 2e-5)
  t.is(learningRateAt(schedule, 0), 0)
})

// Printed by Python 3: lr * (0.5 * (1.0 + math.cos(math.pi * ((k - W) / (T - W))))); V8's Math.cos misses each.
const pythonCosine: [k: number, warmup: number, total: number, rate: number][] = [
  [77, 0, 100, 0.0000024988893036954045],
  [117, 2, 375, 0.000015664640788893377],
  [2555, 0, 4030, 0.000005913651551157295],
  [3042, 2, 4030, 0.0000028249274295566863],
  [2916, 161, 4030, 0.000003819667411262168],
  [9078, 0, 12000, 0.0000027860227614078595],
  [9879, 2, 12000, 0.000001502940928994988],
]

test('cosine rates that V8 would get wrong by a unit in the last place', (t) => {
  for (const [k, warmupSteps, totalSteps, rate] of pythonCosine) {
    t.is(learningRateAt({ type: 'cosine', learningRate: 2e-5, warmupSteps, totalSteps }, k), rate, `k ${k}`)
  }
})

test('warm-up: a count, a share, or a ratio, and steps come before the ratio', (t) => {
  t.is(warmupStepsOf(100, { warmup_steps: 7, warmup_ratio: 0.5 }), 7)
  t.is(warmupStepsOf(101, { warmup_steps: 0.04, warmup_ratio: null }), 5)
  t.is(warmupStepsOf(101, { warmup_steps: 0, warmup_ratio: 0.04 }), 5)
  t.is(warmupStepsOf(101, { warmup_steps: 0, warmup_ratio: null }), 0)
})

test('constant has no warm-up, constant_with_warmup has', (t) => {
  const schedule = { learningRate: 1e-3, warmupSteps: 4, totalSteps: 10 }
  t.is(learningRateAt({ ...schedule, type: 'constant' }, 1), 1e-3)
  t.is(learningRateAt({ ...schedule, type: 'constant_with_warmup' }, 1), 2.5e-4)
})

test('a warm-up longer than the run never divides by zero', (t) => {
  for (const type of ['linear', 'cosine', 'constant_with_warmup'] as const) {
    const schedule = { type, learningRate: 1, warmupSteps: 10, totalSteps: 10 }
    t.is(learningRateAt(schedule, 9), 0.9)
    t.true(Number.isFinite(learningRateAt(schedule, 10)))
  }
})

test('run length: max_steps over epochs, fractions of an epoch, short last batches', (t) => {
  const options = ConfigSchema.parse({
    model_name_or_path: 'm',
    per_device_train_batch_size: 4,
    gradient_accumulation_steps: 4,
  })
  t.deepEqual(runLength(33, options), {
    microBatchesPerEpoch: 9,
    stepsPerEpoch: 3,
    totalSteps: 9,
    epochs: 3,
  })
  t.like(runLength(33, { ...options, num_train_epochs: 1.5 }), { totalSteps: 5, epochs: 2 })
  t.like(runLength(33, { ...options, max_steps: 7 }), { totalSteps: 7, epochs: 3 })
  t.like(runLength(1, options), { microBatchesPerEpoch: 1, stepsPerEpoch: 1, totalSteps: 3 })
})

test('intervals below 1 are shares of all steps', (t) => {
  t.is(intervalOf(1001, 0.1), 101)
  t.is(intervalOf(1001, 1), 1)
  t.is(intervalOf(1001, 500), 500)
})
