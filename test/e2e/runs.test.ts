// Whole runs on the real engine: what is counted and said but not refused, what is left, and that Node outlives failures.

import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import {
  type ConfigInput,
  examine,
  generate,
  inspectRows,
  LoraTrainError,
  planOf,
  type TrainEvent,
  train,
} from '../../ts/index.js'
import { folderOf } from '../folder.js'
import { ofType } from '../trainer/run.js'
import { rows, shortTemplate, writeGoldenModel } from './model.js'
import { program } from './program.js'

const runOf = (t: ExecutionContext, data: object[] = rows(8)) => {
  const folder = folderOf(t)
  const data_path = join(folder, 'rows.json')
  writeFileSync(data_path, JSON.stringify(data))
  return {
    model_name_or_path: writeGoldenModel(join(folder, 'model')),
    data_path,
    output_dir: join(folder, 'out'),
    template: shortTemplate,
    lora: {},
    max_steps: 2,
    per_device_train_batch_size: 2,
    logging_steps: 1,
  } satisfies ConfigInput
}

const eventsOf = async (config: ConfigInput): Promise<TrainEvent[]> => {
  const events: TrainEvent[] = []
  for await (const event of train(config)) events.push(event)
  return events
}

test('a cut answer and a single row without a supervised token are counted and said', async (t) => {
  const long = 'long '.repeat(20)
  const data = [
    ...rows(6),
    { instruction: 'a', input: '', output: long },
    { instruction: long, input: '', output: 'a' },
  ]
  const config = { ...runOf(t, data), model_max_length: 30 }
  const [event] = ofType(await eventsOf(config), 'data')
  t.like(event, { rows: 8, usedRows: 7, lengthMax: 30, cutRows: [7, 8], unsupervisedRows: [8] })

  const words = Object.entries(shortTemplate).flatMap(([name, text]) => [`--template.${name}`, text])
  const { model_name_or_path: model, data_path, output_dir } = config
  const limits = ['--model_max_length', '30', '--max_steps', '1', '--overwrite_output_dir']
  const args = ['--model_name_or_path', model, '--data_path', data_path, '--output_dir', output_dir, '--lora']
  const { status, stdout, stderr } = await program('train', ...args, ...limits, ...words)
  t.is(status, 0, stderr)
  t.regex(stdout, /^ {2}cut by model_max_length: 2 rows \(7, 8\)$/m)
  t.regex(stdout, /^ {2}left out, without a supervised token: 1 row \(8\)$/m)
})

test('--json: each line of stdout is an event, and people read stderr', async (t) => {
  const { model_name_or_path: model, data_path, output_dir } = runOf(t)
  const args = ['--model_name_or_path', model, '--data_path', data_path, '--output_dir', output_dir, '--lora']
  const { status, stdout, stderr } = await program('train', ...args, '--max_steps', '1', '--json')
  t.is(status, 0, stderr)
  const events: TrainEvent[] = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  const types = events.map(({ type }) => type).filter((type) => type !== 'loading' && type !== 'working')
  const saved = ['saved', 'saved', 'saved', 'checked', 'saved', 'saved']
  t.deepEqual(types, ['data', 'plan', 'loaded', 'notice', 'start', 'step', ...saved, 'done'])
  t.regex(stderr, /^Trainable params: \d+ \|\| all_params: \d+ \|\| trainable%: [\d.]+$/m)
  t.deepEqual(readdirSync(output_dir).sort(), [
    'adapter_config.json',
    'adapter_model.safetensors',
    'checkpoint-1',
    'loss.png',
    'loss.svg',
    'report.html',
    'special_tokens_map.json',
    'tokenizer.json',
    'tokenizer_config.json',
    'trainer_state.json',
  ])
})

test('a full fine-tuning leaves a model that can be trained again', async (t) => {
  const { lora: _, ...full } = runOf(t)
  await eventsOf(full)
  const again = { ...full, model_name_or_path: full.output_dir, output_dir: `${full.output_dir}-2` }
  const [first] = ofType(
    await eventsOf({ ...full, output_dir: `${full.output_dir}-1`, learning_rate: 0 }),
    'log',
  )
  const [second] = ofType(await eventsOf({ ...again, learning_rate: 0 }), 'log')
  t.true((second?.log.loss ?? Infinity) < (first?.log.loss ?? 0), 'two steps have lowered the loss')
})

test('Node outlives failures: many in one process, then a good run', async (t) => {
  const config = runOf(t)
  const bad = join(config.output_dir, '..', 'bad.json')
  writeFileSync(bad, '[')
  const wrong: [ConfigInput, LoraTrainError['code']][] = [
    [{ ...config, model_name_or_path: bad }, 'MODEL_FILES'],
    [{ ...config, data_path: bad }, 'DATA'],
    [{ ...config, output_dir: join(bad, 'out') }, 'OUTPUT'],
    [{ ...config, lora: { target_modules: ['nothing'] } }, 'CONFIG'],
    [{ ...config, memory: ['1MiB'] }, 'MEMORY'],
    // Each step multiplies every weight by 1 − 10⁵.
    [
      {
        ...config,
        output_dir: `${config.output_dir}-diverged`,
        ...{ lora: null, learning_rate: 1000, weight_decay: 100, max_steps: 12 },
      },
      'DIVERGED',
    ],
  ]
  for (const [values, code] of [...wrong, ...wrong]) {
    const error = await t.throwsAsync(eventsOf(values), { instanceOf: LoraTrainError })
    t.is((error as LoraTrainError).code, code, error?.message)
    t.false(existsSync(config.output_dir))
  }
  // Steps were done there: how they went is what is left.
  t.deepEqual(readdirSync(`${config.output_dir}-diverged`).sort(), ['loss.png', 'loss.svg', 'report.html'])
  const events = await eventsOf(config)
  t.is(events.at(-1)?.type, 'done')
})

test('the API answers what the commands answer', async (t) => {
  const config = runOf(t)
  t.like(await planOf(config), { fits: true, nBlocks: 2 })
  t.false((await planOf({ ...config, memory: ['1MiB'] })).fits)
  // What was measured is kept, and not in the cache of whoever runs the tests.
  process.env.LORA_TRAIN_CACHE = join(config.output_dir, '..', 'cache')
  t.true((await examine()).gemmGflopsF32 > 0)
  const { rows: count, shown } = await inspectRows(config, { first: 8, count: 2 })
  t.is(count, 8)
  t.deepEqual(shown[0]?.segments, [
    { supervised: false, tokens: [...'repeat 2 twice:'] },
    { supervised: true, tokens: [...'222', '</s>'] },
  ])
  const question = { kind: 'text', prompt: 'a' } as const
  const { ids } = await generate(config, { question, sampling: { max_new_tokens: 3 } })
  t.true(ids.length >= 1 && ids.length <= 3)
  const error = await t.throwsAsync(generate(config, { question, sampling: { top_p: 2 } }), {
    instanceOf: LoraTrainError,
  })
  t.regex(error?.message ?? '', /^sampling\.top_p: /)
})
