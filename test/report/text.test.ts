// The reports as people and programs see them: what is written where, on a terminal and elsewhere.

import test from 'ava'
import { match } from 'ts-pattern'
import type { Plan } from '../../ts/native/contract.js'
import { createReport } from '../../ts/report/index.js'
import { barLine, formatRate, formatTime } from '../../ts/report/progress.js'
import type { StepEvent, TrainEvent } from '../../ts/trainer/events.js'

class Recorded {
  text = ''
  constructor(
    readonly isTTY: boolean,
    readonly columns = 120,
  ) {}
  write(text: string): void {
    this.text += text
  }
  /** What a terminal shows in the end: each line after its last carriage return that left something. */
  get lines(): string[] {
    return this.text.split('\n').map((line) => {
      let shown = ''
      for (const part of line.split('\r')) shown = part + shown.slice(part.length)
      return shown.trimEnd()
    })
  }
}

const plan: Plan = {
  bytes: {
    weights: 538_060_032,
    adapter: 9_768_960,
    gradients: 9_768_960,
    optimizer: 19_537_920,
    activations: 1_610_612_736,
    scratch: 16_777_216,
  },
  peakBytes: 2_204_525_824,
  budgetBytes: 8_589_934_592,
  fits: true,
  mapped: { weights: 0, optimizer: 0 },
  devices: [],
  host: null,
  saved: { result: 40, checkpoint: 44 },
  countedFrom: 'headers',
  vocabSize: 49_152,
  tiedHead: true,
  recomputedBlocks: 0,
  keepsAttention: false,
  nBlocks: 30,
  trainableParams: 2_442_240,
  allParams: 136_957_248,
  flopsPerToken: 8e8,
  stepSeconds: 1.25,
  suggestions: [],
}

const step = (number: number, elapsedMs: number): StepEvent => ({
  type: 'step',
  step: number,
  totalSteps: 4,
  epoch: number / 4,
  loss: 2.5,
  gradNorm: 1.5,
  learningRate: 1e-5,
  tokens: 600,
  supervisedTokens: 300,
  stepMs: 1000,
  tokensPerSecond: 600,
  elapsedMs,
  leftMs: (elapsedMs / number) * (4 - number),
})

const log = (number: number): TrainEvent => ({
  type: 'log',
  log: { loss: 2.5, grad_norm: 1.5, learning_rate: 1e-5, epoch: number / 4, step: number },
})

const done: TrainEvent = {
  type: 'done',
  log: {
    train_runtime: 4,
    train_samples_per_second: 4,
    train_steps_per_second: 1,
    train_loss: 2.5,
    epoch: 1,
    step: 4,
  },
  savedTo: 'out',
}

const report = (
  stdout: Recorded,
  stderr: Recorded,
  events: TrainEvent[],
  format: 'text' | 'json' = 'text',
) => {
  const take = createReport({ stdout, stderr, format, progressStyle: 'shown' })
  for (const event of events) take(event)
}

test('on a terminal the log lines stay whole above the bar, and the bar stays at the end', (t) => {
  const screen = new Recorded(true)
  const saved: TrainEvent = { type: 'saved', what: 'adapter', path: 'out' }
  report(screen, screen, [step(1, 1000), log(1), step(2, 2000), log(2), step(4, 4000), saved, done])
  t.deepEqual(screen.lines, [
    "{'loss': 2.5, 'grad_norm': 1.5, 'learning_rate': 1e-05, 'epoch': 0.25}",
    "{'loss': 2.5, 'grad_norm': 1.5, 'learning_rate': 1e-05, 'epoch': 0.5}",
    '100%|██████████| 4/4 [00:04<00:00, 1.00s/it, loss 2.5000, 600 tokens/s]',
    'Saved adapter to out',
    "{'train_runtime': 4.0, 'train_samples_per_second': 4.0, 'train_steps_per_second': 1.0, 'train_loss': 2.5, 'epoch': 1.0}",
    '',
  ])
})

test('the bar stands before the first step is done, and gives way to an evaluation while that lasts', (t) => {
  const screen = new Recorded(true)
  const start: TrainEvent = {
    type: 'start',
    totalSteps: 4,
    stepsPerEpoch: 4,
    epochs: 1,
    warmupSteps: 0,
    microBatchRows: 2,
    gradientAccumulationSteps: 8,
    trainRows: 64,
  }
  const evaluating: TrainEvent = {
    type: 'evaluating',
    step: 2,
    doneBatches: 5,
    totalBatches: 5,
    elapsedMs: 5000,
  }
  const evaluated: TrainEvent = {
    type: 'eval',
    log: {
      eval_loss: 2,
      eval_runtime: 5,
      eval_samples_per_second: 1,
      eval_steps_per_second: 1,
      epoch: 0.5,
      step: 2,
    },
  }
  const take = createReport({ stdout: screen, stderr: screen, format: 'text', progressStyle: 'shown' })
  const last = (): string | undefined => screen.lines.at(-1)
  take(start)
  t.is(last(), '  0%|          | 0/4 [00:00<?, ?it/s]')
  take(step(4, 2000))
  take(evaluating)
  t.is(last(), 'Evaluating: 100%|██████████| 5/5 [00:05<00:00, 1.00s/it]')
  take(evaluated)
  t.is(last(), '100%|██████████| 4/4 [00:02<00:00, 2.00it/s, loss 2.5000, 600 tokens/s]')
  t.regex(screen.lines.at(-2) ?? '', /^\{'eval_loss': 2\.0, /)
})

test('elsewhere there is no bar and no carriage return, but a line of progress now and then', (t) => {
  const stdout = new Recorded(false)
  const stderr = new Recorded(false)
  report(stdout, stderr, [step(1, 31_000), step(2, 40_000), step(3, 62_000), log(3)])
  t.is(stdout.text, "{'loss': 2.5, 'grad_norm': 1.5, 'learning_rate': 1e-05, 'epoch': 0.75}\n")
  t.deepEqual(stderr.lines, [
    '1/4 [00:31<01:33, 31.00s/it, loss 2.5000, 600 tokens/s]',
    '3/4 [01:02<00:20, 20.67s/it, loss 2.5000, 600 tokens/s]',
    '',
  ])
})

test('json: one object per event on stdout, text on stderr', (t) => {
  const stdout = new Recorded(false)
  const stderr = new Recorded(false)
  const events = [{ type: 'plan', plan } as const, step(1, 1000), log(1), done]
  report(stdout, stderr, events, 'json')
  t.deepEqual(
    stdout.text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line)),
    events,
  )
  t.regex(stderr.text, /\{'loss': 2\.5/)
})

test('a short load is silent, a long one shows the time that is left', (t) => {
  const stderr = new Recorded(true)
  const loading = (elapsedMs: number, leftMs: number | null): TrainEvent => ({
    type: 'loading',
    doneBytes: 2 ** 30,
    totalBytes: 2 ** 32,
    elapsedMs,
    leftMs,
  })
  report(new Recorded(true), stderr, [loading(100, null), loading(500, 1500)])
  t.is(stderr.text, '')
  report(new Recorded(true), stderr, [loading(1000, 3000)])
  t.deepEqual(stderr.lines, ['Loading:  25%|██▌       | 1.0 GiB/4.0 GiB [00:01<00:03]'])
})

test('saving shows how much is left, and gives way to the training', (t) => {
  const screen = new Recorded(true)
  const saving = (elapsedMs: number, leftMs: number | null): TrainEvent => ({
    ...{ type: 'working', what: 'saving', path: 'out/checkpoint-2', unit: 'bytes' },
    ...{ done: 2 ** 30, total: 2 ** 32, elapsedMs, leftMs },
  })
  const saved: TrainEvent = { type: 'saved', what: 'checkpoint', path: 'out/checkpoint-2' }
  report(screen, screen, [saving(100, null), saving(500, 1500)])
  t.is(screen.text, '')
  report(screen, screen, [saving(1000, 3000)])
  t.deepEqual(screen.lines, ['Saving checkpoint-2:  25%|██▌       | 1.0 GiB/4.0 GiB [00:01<00:03]'])
  const plain = new Recorded(false)
  report(plain, plain, [step(1, 1000), saving(2500, 7500), saved, step(2, 40_000)])
  t.deepEqual(plain.lines.slice(0, 2), [
    'Saving checkpoint-2: 1.0 GiB/4.0 GiB [00:02<00:07]',
    'Saved checkpoint to out/checkpoint-2',
  ])
  t.regex(plain.lines[2] ?? '', /^2\/4 /)
})

test('what was left out and cut is named by its rows', (t) => {
  const stdout = new Recorded(false)
  const data: TrainEvent = {
    type: 'data',
    split: 'train',
    path: 'rows.json',
    rows: 2000,
    usedRows: 1999,
    tokens: 19_990,
    supervisedTokens: 9000,
    lengthMin: 3,
    lengthMean: 10,
    lengthMax: 64,
    cutRows: Array.from({ length: 12 }, (_, i) => i + 1),
    unsupervisedRows: [7],
  }
  report(stdout, new Recorded(false), [data])
  t.deepEqual(stdout.lines, [
    'rows.json: 2000 rows, 19990 tokens, 9000 of them supervised; 3 to 64 a row, 10.0 on average',
    '  cut by model_max_length: 12 rows (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …)',
    '  left out, without a supervised token: 1 row (7)',
    '',
  ])
})

test('times and rates are printed as tqdm prints them', (t) => {
  t.is(formatTime(0), '00:00')
  t.is(formatTime(242_000), '04:02')
  t.is(formatTime(180_191_000), '50:03:11')
  t.is(formatRate(4030, 180_191_995), '44.71s/it')
  t.is(formatRate(16, 5000), '3.20it/s')
  t.is(formatRate(0, 0), '?it/s')
})

test('the bar never reaches the last column, where it would wrap', (t) => {
  const state = {
    label: '',
    done: 4030,
    total: 4030,
    position: '4030/4030',
    elapsedMs: 180_191_000,
    leftMs: 0,
    notes: ['44.71s/it'],
  }
  t.is(barLine(state, 120), '100%|██████████| 4030/4030 [50:03:11<00:00, 44.71s/it]')
  t.is(barLine(state, 30).length, 29)
  t.is(barLine({ ...state, total: 0, done: 0 }, 120).slice(0, 16), '  0%|          |')
})

test('hidden progress hides the bar and its plain lines, never the log', (t) => {
  for (const isTTY of [true, false]) {
    const stdout = new Recorded(isTTY)
    const stderr = new Recorded(isTTY)
    const take = createReport({ stdout, stderr, format: 'text', progressStyle: 'hidden' })
    for (const event of [step(1, 60_000), log(1)]) take(event)
    t.is(stderr.text, '')
    t.regex(stdout.text, /^\{'loss': 2\.5/)
  }
})

test('notices, evaluations, what was saved and an interruption are said in a line each', (t) => {
  const stdout = new Recorded(false)
  report(stdout, new Recorded(false), [
    { type: 'notice', message: 'use_cache has no effect' },
    {
      type: 'eval',
      log: {
        eval_loss: 1.5,
        eval_runtime: 2,
        eval_samples_per_second: 4,
        eval_steps_per_second: 1,
        epoch: 0.5,
        step: 2,
      },
    },
    { type: 'saved', what: 'adapter', path: 'out' },
    { type: 'checked', what: 'adapter', path: 'out', largestDeviation: 0, bound: 0 },
    { type: 'checked', what: 'model', path: 'out', largestDeviation: 1e-6, bound: 1e-5 },
    { type: 'interrupted', step: 2, totalSteps: 4, checkpoint: null },
  ])
  t.deepEqual(stdout.lines, [
    'Note: use_cache has no effect',
    "{'eval_loss': 1.5, 'eval_runtime': 2.0, 'eval_samples_per_second': 4.0, 'eval_steps_per_second': 1.0, 'epoch': 0.5}",
    'Saved adapter to out',
    'Checked adapter in out: read back, its logits equal those in memory',
    'Checked model in out: read back, its logits within 0.000001 of those in memory',
    'Interrupted after 2 of 4 steps; nothing was saved',
    '',
  ])
})

test('a report that forgets an event does not compile', (t) => {
  const forgetful = (event: TrainEvent) =>
    match(event)
      .with({ type: 'log' }, () => 'log')
      // @ts-expect-error the other events have no case
      .exhaustive()
  t.is(forgetful(log(1)), 'log')
})
