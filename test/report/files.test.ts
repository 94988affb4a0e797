// The files of a run: what is left behind when it ends well, is interrupted, fails, or can't write.

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { type ConfigInput, resolveValues } from '../../ts/config/index.js'
import { withReports, writeReportOf } from '../../ts/report/files.js'
import type { TrainEvent } from '../../ts/trainer/events.js'
import { type TrainEngine, trainWith } from '../../ts/trainer/train.js'
import { runWords } from '../cli/help.js'
import { folderOf } from '../folder.js'
import { failed, recordedEngine, report } from '../trainer/recorded_engine.js'
import { base, ofType } from '../trainer/run.js'
import { readEvents } from './event_reader.js'

const pictures = ['loss.png', 'loss.svg', 'report.html']

const run = async (
  engine: TrainEngine,
  values: ConfigInput,
  { signal, env = {} }: { signal?: AbortSignal; env?: Record<string, string> } = {},
): Promise<{ events: TrainEvent[]; error: unknown }> => {
  const resolved = resolveValues(values)
  const events: TrainEvent[] = []
  try {
    const all = trainWith(engine, resolved.config, signal ? { signal } : {})
    for await (const event of withReports(resolved, all, env)) events.push(event)
    return { events, error: undefined }
  } catch (error) {
    return { events, error }
  }
}

test('a whole run leaves its pictures before its last event', async (t) => {
  const { engine } = recordedEngine()
  const values = base(t)
  const { events } = await run(engine, values)
  t.deepEqual(
    events.slice(-2).map((event) => [event.type, 'what' in event ? event.what : undefined]),
    [
      ['saved', 'report'],
      ['done', undefined],
    ],
  )
  const left = readdirSync(values.output_dir).sort()
  t.deepEqual(left, ['adapter_config.json', ...pictures, 'tokenizer.json', 'trainer_state.json'])
  const page = readFileSync(join(values.output_dir, 'report.html'), 'utf8')
  t.regex(page, /"step":\[1,2,3\],"loss":\[1,2,3\]/)
  t.true(page.includes('the/model · LoRA, r 8'))
  t.regex(page, /<td>steps<\/td><td class="number">3, 3 an epoch<\/td>/)
  t.regex(page, /<td>architecture<\/td><td class="number">llama<\/td>/)
})

test('an interrupted run and a failed one leave what there was', async (t) => {
  const controller = new AbortController()
  const interrupted = recordedEngine({
    step: (index, batch) => {
      if (index === 1) controller.abort()
      return index === 1 ? failed('CANCELLED') : report(1, batch)
    },
  })
  const first = base(t)
  const { events } = await run(interrupted.engine, first, { signal: controller.signal })
  t.is(events.at(-1)?.type, 'interrupted')
  t.deepEqual(readdirSync(first.output_dir).sort(), ['checkpoint-1', ...pictures])
  t.regex(readFileSync(join(first.output_dir, 'report.html'), 'utf8'), /Interrupted after 1 of 3 steps/)

  const diverged = recordedEngine({
    step: (index, batch) => (index === 2 ? failed('DIVERGED') : report(1, batch)),
  })
  const second = base(t)
  const { error } = await run(diverged.engine, second)
  t.like(error, { code: 'DIVERGED' })
  t.deepEqual(readdirSync(second.output_dir).sort(), pictures)
  t.regex(readFileSync(join(second.output_dir, 'report.html'), 'utf8'), /<p class="failed">as told<\/p>/)
})

test('a run that fails before its first step leaves nothing', async (t) => {
  const { engine } = recordedEngine({ step: () => failed('DIVERGED') })
  const values = base(t)
  await run(engine, values)
  t.false(existsSync(values.output_dir))
})

test('a report that can’t be written is said, and the run is done', async (t) => {
  const values = base(t)
  mkdirSync(join(values.output_dir, 'report.html'), { recursive: true })
  const { events, error } = await run(recordedEngine().engine, values)
  t.is(error, undefined)
  t.is(events.at(-1)?.type, 'done')
  t.regex(
    ofType(events, 'notice').at(-1)?.message ?? '',
    /^the report is not whole: .*report\.html can't be written/,
  )
  t.true(existsSync(join(values.output_dir, 'adapter_config.json')))
  t.deepEqual(
    readdirSync(values.output_dir).filter((name) => name.endsWith('.tmp')),
    [],
  )
})

const eventFiles = (folder: string): string[] =>
  (readdirSync(folder, { recursive: true }) as string[]).filter((path) => path.includes('tfevents')).sort()

const tagsOf = (path: string): string[] =>
  readEvents(readFileSync(path)).events.flatMap(({ tag }) => (tag === undefined ? [] : [tag]))

const withEvaluation = (t: ExecutionContext) => {
  const values = base(t)
  return { ...values, eval_data_path: values.data_path, eval_strategy: 'epoch' as const }
}

test('report_to tensorboard: texts, each line of the log, the evaluation, the closing line', async (t) => {
  const values = { ...withEvaluation(t), report_to: ['tensorboard' as const] }
  const model_name_or_path = folderOf(t)
  writeFileSync(join(model_name_or_path, 'config.json'), '{"model_type": "llama"}')
  await run(recordedEngine().engine, { ...values, model_name_or_path })
  const [path = '', ...others] = eventFiles(join(values.output_dir, 'runs'))
  t.deepEqual(others, [])
  t.regex(path, /^\w{3}\d{2}_\d{2}-\d{2}-\d{2}_[^/\\]+[/\\]events\.out\.tfevents\.\d{10}\./)
  const { events } = readEvents(readFileSync(join(values.output_dir, 'runs', path)))
  const texts = new Map(events.flatMap(({ tag, text }) => (text === undefined ? [] : [[tag, text]])))
  t.is(JSON.parse(texts.get('args/text_summary') ?? '').num_train_epochs, 1)
  t.is(texts.get('model_config/text_summary'), '{"model_type": "llama"}')
  const found = (tag: string) =>
    events.filter((event) => event.tag === tag).map(({ step, value }) => [step, value])
  t.deepEqual(found('train/loss'), [
    [1, 1],
    [2, 2],
    [3, 3],
  ])
  t.deepEqual(found('train/grad_norm'), [
    [1, 2],
    [2, 4],
    [3, 6],
  ])
  t.deepEqual(found('eval/loss'), [[3, 3]])
  t.deepEqual(found('train/train_loss'), [[3, 2]])
  t.deepEqual([...new Set(events.flatMap(({ tag }) => (tag ? [tag] : [])))].sort(), [
    'args/text_summary',
    'eval/loss',
    'eval/runtime',
    'eval/samples_per_second',
    'eval/steps_per_second',
    'model_config/text_summary',
    'train/epoch',
    'train/grad_norm',
    'train/learning_rate',
    'train/loss',
    'train/train_loss',
    'train/train_runtime',
    'train/train_samples_per_second',
    'train/train_steps_per_second',
  ])
})

test('logging_dir, the variable of Transformers 5, and a list that asks for nothing', async (t) => {
  const folder = folderOf(t)
  const named = join(folder, 'named')
  await run(recordedEngine().engine, { ...base(t), report_to: ['all'], logging_dir: named })
  t.is(eventFiles(named).length, 1)
  const env = { TENSORBOARD_LOGGING_DIR: join(folder, 'from the environment') }
  await run(recordedEngine().engine, { ...base(t), report_to: ['tensorboard'] }, { env })
  t.is(eventFiles(env.TENSORBOARD_LOGGING_DIR).length, 1)
  const quiet = base(t)
  await run(recordedEngine().engine, { ...quiet, report_to: ['none'] }, { env })
  t.false(existsSync(join(quiet.output_dir, 'runs')))
  t.is(eventFiles(env.TENSORBOARD_LOGGING_DIR).length, 1)
})

test('events that can’t be written are said once, and the run goes on', async (t) => {
  const values = base(t)
  const { events } = await run(recordedEngine().engine, {
    ...values,
    report_to: ['tensorboard'],
    logging_dir: join(values.data_path, 'below a file'),
  })
  t.is(ofType(events, 'notice').filter(({ message }) => /written no more: ENOTDIR/.test(message)).length, 1)
  t.is(events.at(-1)?.type, 'done')
})

/** The events of a run that goes on after step 2, and ends after step `last`. */
async function* laterSteps(path: string, last: 2 | 3): AsyncGenerator<TrainEvent> {
  const step = { type: 'step', totalSteps: 4, epoch: 0.75, loss: 3, gradNorm: 1, learningRate: 1 } as const
  const rest = { tokens: 1, supervisedTokens: 1, stepMs: 1, tokensPerSecond: 1, elapsedMs: 1, leftMs: 1 }
  const start = {
    totalSteps: 4,
    stepsPerEpoch: 4,
    epochs: 1,
    warmupSteps: 0,
    microBatchRows: 1,
    trainRows: 4,
  }
  yield { type: 'resumed', path, step: 2 }
  yield { type: 'start', ...start, gradientAccumulationSteps: 1 }
  if (last === 3) yield { ...step, ...rest, step: 3 }
  yield { type: 'interrupted', step: last, totalSteps: 4, checkpoint: null }
}

test('a run that goes on shows what came before, and keeps its folder of events', async (t) => {
  const output_dir = folderOf(t)
  for (const [step, losses] of [
    [2, [8, 7]],
    [4, [1, 1, 1, 1]],
  ] as const) {
    const folder = join(output_dir, `checkpoint-${step}`)
    const log_history = losses.map((loss, i) => ({ loss, step: i + 1, epoch: (i + 1) / 4 }))
    mkdirSync(folder)
    writeFileSync(join(folder, 'trainer_state.json'), JSON.stringify({ global_step: step, log_history }))
  }
  const before = join(output_dir, 'runs', 'before')
  mkdirSync(before, { recursive: true })
  writeFileSync(join(before, 'events.out.tfevents.1700000000.host.1.0'), '')
  const values = { model_name_or_path: 'm', output_dir, resume_from_checkpoint: true, report_to: ['all'] }
  const from = join(output_dir, 'checkpoint-2')
  const later = (last: 2 | 3) => withReports(resolveValues(values), laterSteps(from, last), {})
  const pageAfter = async (last: 2 | 3): Promise<string> => {
    for await (const event of later(last)) t.truthy(event)
    return readFileSync(join(output_dir, 'report.html'), 'utf8')
  }
  const page = await pageAfter(3)
  t.regex(page, /"step":\[1,2,3\],"loss":\[8,7,3\]/)
  t.is(readdirSync(before).length, 2)
  t.deepEqual(
    tagsOf(join(before, readdirSync(before).sort()[1] ?? '')).filter((tag) => tag.includes('text')),
    ['args/text_summary'],
  )
  // A run that was killed between its last checkpoint and its report has no step left to do.
  t.regex(await pageAfter(2), /"step":\[1,2\],"loss":\[8,7\]/)
})

test('the report of a log alone: a folder, its newest checkpoint, as a command', async (t) => {
  const folder = folderOf(t)
  const state = {
    global_step: 2,
    log_history: [
      { loss: '2.5', step: 1, epoch: '0.5' },
      { loss: 2, step: 2 },
    ],
  }
  mkdirSync(join(folder, 'checkpoint-2'))
  // Python's way to say that a number is none.
  const text = JSON.stringify(state).replace('"epoch":"0.5"', '"grad_norm":NaN,"note":"NaN \\" Infinity"')
  writeFileSync(join(folder, 'checkpoint-2', 'trainer_state.json'), text)
  t.deepEqual(
    await writeReportOf(folder),
    ['loss.svg', 'loss.png', 'report.html'].map((name) => join(folder, name)),
  )
  const elsewhere = join(folder, 'new', 'place')
  const { status, stdout } = await runWords(['report', folder, '--output_dir', elsewhere])
  t.is(status, 0)
  t.regex(stdout, /^Saved .*loss\.svg\nSaved .*loss\.png\nSaved .*report\.html\n$/)
  t.deepEqual(readdirSync(elsewhere).sort(), pictures)
})

test('wrong folders for a report, each with its status and nothing written', async (t) => {
  const folder = folderOf(t)
  const path = join(folder, 'trainer_state.json')
  const cases: [text: string | null, message: RegExp][] = [
    [null, /trainer_state\.json: there is no such file/],
    ['{"log_history": [', /can't be read as JSON/],
    ['{"log_history": 3}', /has no log_history/],
    ['[]', /has no log_history/],
    ['{"log_history": [{"step": 1}]}', /its log has no loss/],
  ]
  for (const [text, message] of cases) {
    if (text !== null) writeFileSync(path, text)
    const { status, stderr } = await runWords(['report', folder])
    t.is(status, 3)
    t.regex(stderr, message)
    t.regex(stderr, /^error: [^\n]+\nhint: [^\n]+\n$/)
  }
  t.deepEqual(readdirSync(folder), ['trainer_state.json'])
  t.is((await runWords(['report'])).status, 2)
  t.is((await runWords(['report', folder, 'another'])).status, 2)
})
