// A whole run on a recorded engine: the order of things, the batches, the log, the evaluation, what it leaves.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { folderOf } from '../folder.js'
import { recordedEngine, report } from './recorded_engine.js'
import { base, collect, ofType } from './run.js'

test('a run: its events and its calls, in order, and what it leaves', async (t) => {
  const { engine, asked } = recordedEngine()
  const values = base(t)
  const events = await collect(engine, values)
  t.deepEqual(
    events.map((event) => event.type).filter((type) => type !== 'loading' && type !== 'working'),
    [
      'data',
      'plan',
      'loaded',
      'start',
      'step',
      'log',
      'step',
      'log',
      'step',
      'log',
      'saved',
      'saved',
      'checked',
      'saved',
      'done',
    ],
  )
  t.deepEqual(asked.calls, [
    'plan',
    'openTokenizer ./the/model',
    'plan',
    'openSession',
    'load',
    'step',
    'step',
    'step',
    'saveAdapter ./the/model',
    'tokenizer.save',
    'checkSaved',
    'cancel',
    'close',
  ])
  t.like(asked.options[1], {
    model: './the/model',
    method: { kind: 'lora' },
    plan: { seqLength: 2, microBatch: 1, gradientAccumulation: 2 },
  })
  t.deepEqual(readdirSync(values.output_dir).sort(), [
    'adapter_config.json',
    'tokenizer.json',
    'trainer_state.json',
  ])
  const [done] = ofType(events, 'done')
  t.like(done?.log, { train_loss: 2, epoch: 1, step: 3 })
  t.is(done?.savedTo, values.output_dir)
})

test('the rate of a step is the one that is logged for it', async (t) => {
  const { engine, asked } = recordedEngine()
  const events = await collect(engine, { ...base(t), learning_rate: 1e-3, warmup_steps: 1 })
  t.deepEqual(asked.rates, [0, 1e-3, 5e-4])
  t.deepEqual(
    ofType(events, 'log').map(({ log }) => log.learning_rate),
    asked.rates,
  )
})

test('what the model holds and can, beside what is asked of it, is said once', async (t) => {
  const info = { unusedTensors: ['a', 'b', 'c', 'd', 'e', 'f'], maxPositions: 1 }
  const events = await collect(recordedEngine({ info }).engine, base(t))
  t.deepEqual(
    ofType(events, 'notice').map(({ message }) => message),
    [
      "the model's files hold 6 tensors that its architecture has no place for: a, b, c, d, e, …",
      'the longest row has 2 tokens; the model was made for 1 (model_max_length cuts rows)',
    ],
  )
})

test('where the files hold quantised weights, what the options say otherwise is named', async (t) => {
  const said = async (doubleQuant: boolean, quantization: object | null, code: 'nf4' | 'int8' = 'nf4') => {
    const info = { storedQuantized: { tensors: 7, code, doubleQuant } } as const
    const lora = { r: 2, target_modules: ['q_proj'] }
    const events = await collect(recordedEngine({ info }).engine, { ...base(t), lora, quantization })
    return ofType(events, 'notice').map(({ message }) => message)
  }
  const nf4 = { load_in_4bit: true, bnb_4bit_quant_type: 'nf4' }
  const kept = "the model's files hold 7 weights in 4 bits (NF4, double quantisation on), which stay so"
  t.deepEqual(await said(true, null), [kept])
  t.deepEqual(await said(true, { ...nf4, bnb_4bit_use_double_quant: true }), [])
  t.deepEqual(await said(false, nf4), [])
  t.deepEqual(await said(true, { ...nf4, llm_int8_skip_modules: ['o_proj'] }), [
    `${kept}: bnb_4bit_use_double_quant false and llm_int8_skip_modules has no effect`,
  ])
  t.deepEqual(await said(true, { load_in_4bit: true, bnb_4bit_use_double_quant: true }), [
    `${kept}: bnb_4bit_quant_type fp4 has no effect`,
  ])
  const int8 = { load_in_8bit: true }
  const rows = "the model's files hold 7 weights in 8 bits (int8), which stay so"
  t.deepEqual(await said(false, null, 'int8'), [rows])
  t.deepEqual(await said(false, int8, 'int8'), [])
  t.deepEqual(await said(false, nf4, 'int8'), [`${rows}: load_in_4bit has no effect`])
  t.deepEqual(await said(true, int8), [`${kept}: load_in_8bit has no effect`])
})

test('where the quantised weights came from, or are kept, is said', async (t) => {
  const said = async (
    outcome: 'read' | 'written' | 'failed',
    reason: string | null = null,
    removed = 0,
    more: object = {},
  ) => {
    const cache = { path: '/kept', bytes: 3 << 20, outcome, reason, removed, removedBytes: removed << 20 }
    const info = { quantizedCache: cache }
    const events = await collect(recordedEngine({ info }).engine, { ...base(t), ...more })
    return ofType(events, 'notice').map(({ message }) => message)
  }
  const weights = 'the weights in 4 bits (3.0 MiB)'
  t.deepEqual(await said('read'), [`${weights} come from /kept`])
  const kept = `${weights} are kept for the next start in /kept (quantized_cache_dir)`
  t.deepEqual(await said('written'), [kept])
  t.deepEqual(await said('written', null, 1), [kept, '1 old entry (1.0 MiB) made room there'])
  t.deepEqual(await said('written', '/old: no permission', 2), [
    kept,
    '2 old entries (2.0 MiB) made room there',
    'an old entry could not be removed: /old: no permission',
  ])
  t.deepEqual(await said('failed', 'disk full'), [
    `${weights} could not be kept for the next start: disk full`,
  ])
  const int8 = { lora: { r: 2, target_modules: ['q_proj'] }, quantization: { load_in_8bit: true } }
  t.deepEqual(await said('read', null, 0, int8), ['the weights in 8 bits (3.0 MiB) come from /kept'])
})

test('each row is trained on once in an epoch, in an order of its own each epoch', async (t) => {
  const { engine, asked } = recordedEngine()
  await collect(engine, { ...base(t, 20), num_train_epochs: 2 })
  const rows = asked.batches.flatMap((batch) =>
    [...batch.ids].filter((_, i) => i % 2 === 0).map((id) => id / 2),
  )
  const all = Array.from({ length: 20 }, (_, i) => i)
  const byNumber = (a: number, b: number) => a - b
  t.deepEqual(rows.slice(0, 20).sort(byNumber), all)
  t.deepEqual(rows.slice(20).sort(byNumber), all)
  t.notDeepEqual(rows.slice(0, 20), rows.slice(20))
})

test('data_seed alone decides the order', async (t) => {
  const orders = await Promise.all(
    [{ seed: 1 }, { seed: 2 }, { seed: 1, data_seed: 2 }].map(async (seeds) => {
      const { engine, asked } = recordedEngine()
      await collect(engine, { ...base(t, 20), ...seeds })
      return asked.batches.flatMap((batch) => [...batch.ids])
    }),
  )
  t.notDeepEqual(orders[0], orders[1])
  t.deepEqual(orders[1], orders[2])
})

test('a log line holds the mean loss since the last one, and the last norm', async (t) => {
  const { engine } = recordedEngine()
  const events = await collect(engine, { ...base(t, 14), logging_steps: 3, logging_first_step: true })
  t.deepEqual(
    ofType(events, 'log').map(({ log }) => [log.step, log.loss, log.grad_norm]),
    [
      [1, 1, 2],
      [3, 2.5, 6],
      [6, 5, 12],
    ],
  )
  // The seventh step is in no line, but in the closing one.
  t.is(ofType(events, 'done')[0]?.log.train_loss, 4)
})

test('logging by epoch, also where max_steps cuts the last one short', async (t) => {
  const { engine } = recordedEngine()
  const events = await collect(engine, { ...base(t), logging_strategy: 'epoch', max_steps: 4 })
  t.deepEqual(
    ofType(events, 'log').map(({ log }) => [log.step, log.epoch]),
    [
      [3, 1],
      [4, 1 + 2 / 6],
    ],
  )
})

test('max_steps ends the run in the middle of an epoch', async (t) => {
  const { engine, asked } = recordedEngine()
  const events = await collect(engine, { ...base(t), max_steps: 2 })
  t.is(asked.batches.length, 2)
  t.like(ofType(events, 'done')[0]?.log, { step: 2, epoch: 4 / 6 })
})

test('evaluation by steps comes at the end too, and is logged with the rest', async (t) => {
  const { engine, asked } = recordedEngine()
  const values = base(t, 6)
  const events = await collect(engine, {
    ...values,
    eval_data_path: values.data_path,
    eval_strategy: 'steps',
    eval_steps: 2,
    per_device_eval_batch_size: 4,
  })
  t.deepEqual(
    ofType(events, 'eval').map(({ log }) => [log.step, log.eval_loss]),
    [
      [2, 3],
      [3, 3],
    ],
  )
  t.deepEqual(
    asked.evaluated.map((batch) => [...batch.microStarts]),
    [
      [0, 4],
      [0, 2],
      [0, 4],
      [0, 2],
    ],
  )
  t.deepEqual(
    ofType(events, 'data').map(({ split }) => split),
    ['train', 'eval'],
  )
  const state = JSON.parse(readFileSync(join(values.output_dir, 'trainer_state.json'), 'utf8'))
  t.deepEqual(
    state.log_history.map((line: object) => Object.keys(line)[0]),
    ['loss', 'loss', 'eval_loss', 'loss', 'eval_loss', 'train_runtime'],
  )
})

test('evaluation by epoch', async (t) => {
  const { engine } = recordedEngine()
  const values = base(t)
  const events = await collect(engine, {
    ...values,
    eval_data_path: values.data_path,
    eval_strategy: 'epoch',
    num_train_epochs: 2,
  })
  t.deepEqual(
    ofType(events, 'eval').map(({ log }) => log.epoch),
    [1, 2],
  )
})

test('an evaluation on start comes before the first step', async (t) => {
  const { engine } = recordedEngine()
  const values = base(t)
  const events = await collect(engine, {
    ...values,
    eval_data_path: values.data_path,
    eval_strategy: 'no',
    eval_on_start: true,
  })
  const kinds = events.map(({ type }) => type).filter((type) => type === 'eval' || type === 'step')
  t.is(kinds.indexOf('eval'), 0)
  t.is(kinds.lastIndexOf('eval'), 0)
  t.deepEqual(
    ofType(events, 'eval').map(({ log }) => [log.epoch, log.step]),
    [[0, 0]],
  )
})

test('trainer_state.json has the keys of Transformers and rounds nothing', async (t) => {
  const { engine } = recordedEngine({ step: (i, batch) => report(1 / (i + 3), batch) })
  const values = base(t)
  await collect(engine, values)
  const state = JSON.parse(readFileSync(join(values.output_dir, 'trainer_state.json'), 'utf8'))
  t.deepEqual(Object.keys(state), Object.keys(state).sort())
  t.like(state, {
    best_metric: null,
    epoch: 1,
    global_step: 3,
    max_steps: 3,
    num_train_epochs: 1,
    num_input_tokens_seen: 12,
    total_flos: 84,
    train_batch_size: 1,
    is_world_process_zero: true,
  })
  t.like(state.log_history[0], { loss: 1 / 3, grad_norm: 2 / 3, learning_rate: 5e-5, epoch: 1 / 3, step: 1 })
})

test('packing leaves no padding; without it rows are padded and the labels masked', async (t) => {
  const rows = {
    train: {
      ids: Uint32Array.of(1, 2, 3, 4, 5),
      labels: Int32Array.of(-100, 2, -100, 4, 5),
      offsets: Uint32Array.of(0, 2, 5),
    },
  }
  const values = { ...base(t), per_device_train_batch_size: 2, overwrite_output_dir: true }
  const batchOf = async (packing: boolean) => {
    const { engine, asked } = recordedEngine()
    await collect(engine, { ...values, packing }, { rows, order: 'as given' })
    t.false(asked.calls.some((call) => call.startsWith('openTokenizer')))
    return asked.batches[0]
  }
  const packed = await batchOf(true)
  const padded = await batchOf(false)
  t.deepEqual([...(packed?.ids ?? [])], [1, 2, 3, 4, 5])
  t.deepEqual([...(padded?.ids ?? [])], [1, 2, 0, 3, 4, 5])
  t.deepEqual([...(padded?.labels ?? [])], [-100, 2, -100, -100, 4, 5])
})

test('a full fine-tuning saves the model', async (t) => {
  const { engine, asked } = recordedEngine()
  const { lora: _, ...values } = base(t)
  const events = await collect(engine, { ...values, adapter_output_dir: join(folderOf(t), 'other') })
  t.true(asked.calls.includes('saveModel'))
  t.deepEqual(
    ofType(events, 'saved').map(({ what }) => what),
    ['model', 'tokenizer', 'state'],
  )
  t.is(ofType(events, 'done')[0]?.savedTo, values.output_dir)
})

test('adapter and tokenizer go to adapter_output_dir, the log stays in output_dir', async (t) => {
  const { engine } = recordedEngine()
  const values = { ...base(t), adapter_output_dir: join(folderOf(t), 'adapter') }
  await collect(engine, values)
  t.deepEqual(readdirSync(values.adapter_output_dir).sort(), ['adapter_config.json', 'tokenizer.json'])
  t.deepEqual(readdirSync(values.output_dir), ['trainer_state.json'])
})

test('loading is told while it lasts', async (t) => {
  const { engine } = recordedEngine({ loadPolls: 3 })
  const loading = ofType(await collect(engine, base(t)), 'loading')
  t.is(loading.length, 3)
  t.like(loading[0], { doneBytes: 25, totalBytes: 100 })
  t.true((loading[0]?.leftMs ?? 0) > (loading[0]?.elapsedMs ?? 0))
})
