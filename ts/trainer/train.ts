// A whole training run as an async iterable of events: folders, rows, plan, loading, the loop, saving.
// The events are the only output besides the files in the output folders. Never prints, never ends the process.

import { type Config, engineOptions, formatBytes, missing, namedTokensOf } from '../config/index.js'
import type { Padding } from '../data/batches.js'
import { readTokenRows, refuseUnknownTokens, type TokenRows, usableRows } from '../data/encode.js'
import { type NamedTokenizer, openNamedTokenizer } from '../data/tokenizer.js'
import { localConfig, type Need } from '../hub/resolve.js'
import type {
  Checked,
  EncodedRows,
  EngineOptions,
  Native,
  Plan,
  Session,
  SessionInfo,
  Tokenizer,
} from '../native/contract.js'
import { LoraTrainError, unwrap } from '../native/errors.js'
import { isCancelled, polled, queued, throwIfCancelled } from './cancel.js'
import type { DataEvent, HubEvent, Split, TrainEvent } from './events.js'
import { type Progress, type RowOrder, trainLoop } from './loop.js'
import { makeFolders, statePath, writeWhole } from './output.js'
import { intervalOf, runLength } from './schedule.js'
import { stateText, type TrainerState } from './state.js'

export interface TrainOptions {
  /** Ends the run: the step that runs is dropped, and the last event is `interrupted`. */
  signal?: AbortSignal
}

/** Rows that are token ids already: neither `data_path` nor a tokenizer is read. Labels −100 where masked. */
export interface GivenRows {
  train: Pick<EncodedRows, 'ids' | 'labels' | 'offsets'>
  eval?: Pick<EncodedRows, 'ids' | 'labels' | 'offsets'>
}

export interface RunOptions extends TrainOptions {
  rows?: GivenRows
  /** Order of the training rows in each epoch; by the seed where nothing else is said. */
  order?: RowOrder
}

/** The part of the engine that a run needs. */
export type TrainEngine = Pick<Native, 'openTokenizer' | 'plan' | 'openSession'>

/** A run of a checked config on an engine that is given. */
export async function* trainWith(
  engine: TrainEngine,
  config: Config,
  options: RunOptions = {},
): AsyncGenerator<TrainEvent> {
  const { signal, order = 'shuffled' } = options
  const places = placesOf(config)
  const progress: Progress = { step: 0, totalSteps: 0, epoch: 0, tokens: 0, log_history: [] }
  const folders = await makeFolders([places.outputDir, places.resultDir])
  let session: Session | undefined
  const cancel = (): void => session?.cancel()
  signal?.addEventListener('abort', cancel)
  try {
    // The adapter names the model as the config does; everything else reads the paths.
    const local = yield* download(config, options.rows ? ['model'] : ['model', 'tokenizer'], signal)
    // Reading the rows may take long: what is wrong with the model's files is said before.
    unwrap(await engine.plan(JSON.stringify(engineOptions(local))))
    throwIfCancelled(signal)
    const data = yield* options.rows ? givenData(options.rows) : readData(engine, config, local, signal)
    const { lengthMax, vocabulary } = data
    const optionsJson = JSON.stringify({ ...withSeqLength(engineOptions(local), lengthMax), ...vocabulary })
    const plan = unwrapJson<Plan>(await engine.plan(optionsJson))
    yield { type: 'plan', plan }
    refuseTooLarge(plan)
    throwIfCancelled(signal)

    session = engine.openSession(optionsJson)
    const model = yield* load(session)
    for (const message of modelNotices(model, data)) yield { type: 'notice', message }
    const { train, evaluation } = data
    refuseUnknownTokens(data.paths.train, train, model.vocabSize)
    if (evaluation !== null) refuseUnknownTokens(data.paths.eval, evaluation, model.vocabSize)
    const padding = paddingOf(config, data.tokenizer)
    const log = yield* trainLoop({ session, config, train, evaluation, order, padding, progress, signal })
    // The run is whole: what it has learnt is saved, even where the signal comes now.
    signal?.removeEventListener('abort', cancel)

    progress.log_history.push(log)
    yield* save(session, config, data.tokenizer, places.resultDir)
    const path = statePath(places.outputDir)
    await writeWhole(path, stateText(stateOf(config, train, progress, plan)))
    yield { type: 'saved', what: 'state', path }
    yield { type: 'done', log, savedTo: places.resultDir }
  } catch (error) {
    if (!isCancelled(error)) throw error
    yield { type: 'interrupted', step: progress.step, totalSteps: progress.totalSteps }
  } finally {
    signal?.removeEventListener('abort', cancel)
    // Whoever stops listening in the middle leaves work behind; the session must not wait for it.
    session?.cancel()
    await session?.close()
    await folders.removeEmpty()
  }
}

/** Where the log goes, and where the adapter or the model goes. */
const placesOf = (config: Config): { outputDir: string; resultDir: string } => {
  const { output_dir: outputDir, adapter_output_dir: adapterDir } = config
  if (outputDir === null) throw missing('output_dir')
  return { outputDir, resultDir: config.lora === null ? outputDir : (adapterDir ?? outputDir) }
}

/** Brings what the config names by hub id into the cache; returns the config with its paths. */
async function* download(
  config: Config,
  needs: readonly Need[],
  signal: AbortSignal | undefined,
): AsyncGenerator<HubEvent, Config> {
  const left = new AbortController()
  const either = signal ? AbortSignal.any([signal, left.signal]) : left.signal
  const events: HubEvent[] = []
  const onEvent = (event: HubEvent): void => void events.push(event)
  try {
    return yield* queued(localConfig(config, needs, { signal: either, onEvent }), loadingIntervalMs, events)
  } finally {
    left.abort()
  }
}

interface RunData {
  train: TokenRows
  evaluation: TokenRows | null
  /** What the rows are called. */
  paths: Record<Split, string>
  /** The longest row, in tokens. */
  lengthMax: number
  /** null where the rows came as ids. */
  tokenizer: Tokenizer | null
  vocabulary: NamedTokenizer['vocabulary'] | null
}

async function* readData(
  engine: TrainEngine,
  config: Config,
  local: Config,
  signal: AbortSignal | undefined,
): AsyncGenerator<TrainEvent, RunData> {
  const { data_path: path, eval_data_path: evalPath, template, model_max_length: modelMaxLength } = local
  if (path === null) throw missing('data_path')
  const tokenizerPath = local.tokenizer_name ?? local.model_name_or_path
  const { tokenizer, vocabulary, notices } = await openNamedTokenizer(
    engine,
    tokenizerPath,
    namedTokensOf(config),
  )
  for (const message of notices) yield { type: 'notice', message }
  const options = { template, modelMaxLength, trainOnSource: config.train_on_source }

  throwIfCancelled(signal)
  const train = await readTokenRows(tokenizer, { path, ...options })
  yield dataEvent('train', path, train)
  throwIfCancelled(signal)
  let evaluation: TokenRows | null = null
  if (evalPath !== null && (config.eval_strategy !== 'no' || config.eval_on_start)) {
    const read = await readTokenRows(tokenizer, { path: evalPath, ...options })
    yield dataEvent('eval', evalPath, read)
    evaluation = read.rows
    throwIfCancelled(signal)
  }
  const paths = { train: path, eval: evalPath ?? '' }
  return {
    train: train.rows,
    evaluation,
    paths,
    lengthMax: train.statistics.lengthMax,
    tokenizer,
    vocabulary,
  }
}

function* givenData({ train, eval: given }: GivenRows): Generator<DataEvent, RunData> {
  const cut = new Uint32Array()
  const paths = { train: 'rows.train', eval: 'rows.eval' }
  const trainRows = usableRows(paths.train, { ...train, cut })
  yield dataEvent('train', paths.train, trainRows)
  const evalRows = given && usableRows(paths.eval, { ...given, cut })
  if (evalRows) yield dataEvent('eval', paths.eval, evalRows)
  const { lengthMax } = trainRows.statistics
  const evaluation = evalRows?.rows ?? null
  return { train: trainRows.rows, evaluation, paths, lengthMax, tokenizer: null, vocabulary: null }
}

const dataEvent = (
  split: Split,
  path: string,
  { statistics }: Awaited<ReturnType<typeof readTokenRows>>,
): DataEvent => ({ type: 'data', split, path, ...statistics })

/** The plan counts on the longest row that there is, not on the longest that may be. */
const withSeqLength = (options: EngineOptions, seqLength: number): EngineOptions => ({
  ...options,
  plan: { ...options.plan, seqLength },
})

const refuseTooLarge = ({ fits, peakBytes, budgetBytes, suggestions }: Plan): void => {
  if (fits) return
  throw new LoraTrainError(
    'MEMORY',
    `the run needs ${formatBytes(peakBytes)} of memory and has ${formatBytes(budgetBytes)}`,
    suggestions.length > 0 ? `It would fit with: ${suggestions.join('; ')}.` : 'Choose a smaller model.',
  )
}

/** Any id does for padding: its label is −100 and nothing attends to it. */
const paddingOf = ({ packing }: Config, tokenizer: Tokenizer | null): Padding => {
  if (packing) return { kind: 'none' }
  const info = tokenizer?.info()
  return { kind: 'longest', padId: info?.padId ?? info?.eosId ?? 0 }
}

const loadingIntervalMs = 100

async function* load(session: Session): AsyncGenerator<TrainEvent, SessionInfo> {
  const started = performance.now()
  const result = yield* polled(session.load(), loadingIntervalMs, (): TrainEvent => {
    const { done: doneBytes, total: totalBytes } = session.progress()
    const elapsedMs = performance.now() - started
    const leftMs = doneBytes > 0 ? (elapsedMs / doneBytes) * (totalBytes - doneBytes) : null
    return { type: 'loading', doneBytes, totalBytes, elapsedMs, leftMs }
  })
  const model = unwrapJson<SessionInfo>(result)
  yield { type: 'loaded', model, elapsedMs: performance.now() - started }
  return model
}

const namedTensors = 5

/** What the model's files say that people may not expect. */
const modelNotices = (model: SessionInfo, { lengthMax, vocabulary }: RunData): string[] => {
  const { unusedTensors: unused, maxPositions, vocabSize, storedVocabSize } = model
  const shown = unused.slice(0, namedTensors).join(', ') + (unused.length > namedTensors ? ', …' : '')
  const tensors = unused.length === 1 ? '1 tensor' : `${unused.length} tensors`
  const grew = `the vocabulary grows from ${storedVocabSize} rows to ${vocabSize}; the new ones are the mean of the old`
  const hasRoom = `the new token takes a free row: the model has ${vocabSize}`
  return [
    ...(typeof vocabulary?.vocabRows !== 'number' ? [] : [vocabSize > storedVocabSize ? grew : hasRoom]),
    ...(unused.length === 0
      ? []
      : [`the model's files hold ${tensors} that its architecture has no place for: ${shown}`]),
    ...(lengthMax <= maxPositions
      ? []
      : [
          `the longest row has ${lengthMax} tokens; the model was made for ${maxPositions} (model_max_length cuts rows)`,
        ]),
  ]
}

async function* save(
  session: Session,
  config: Config,
  tokenizer: Tokenizer | null,
  path: string,
): AsyncGenerator<TrainEvent> {
  if (config.lora === null) {
    unwrap(await session.saveModel(path))
    yield { type: 'saved', what: 'model', path }
  } else {
    unwrap(await session.saveAdapter(path, config.model_name_or_path))
    yield { type: 'saved', what: 'adapter', path }
  }
  if (tokenizer !== null) {
    unwrap(await tokenizer.save(path))
    yield { type: 'saved', what: 'tokenizer', path }
  }
  yield { type: 'checked', path, ...unwrapJson<Checked>(await session.checkSaved(path)) }
}

const stateOf = (
  config: Config,
  train: TokenRows,
  { step, totalSteps, epoch, tokens, log_history }: Progress,
  plan: Plan,
): TrainerState => ({
  epoch,
  eval_steps: intervalOf(totalSteps, config.eval_steps ?? config.logging_steps),
  global_step: step,
  log_history,
  logging_steps: intervalOf(totalSteps, config.logging_steps),
  max_steps: totalSteps,
  num_input_tokens_seen: tokens,
  num_train_epochs: runLength(train.usable.length, config).epochs,
  save_steps: intervalOf(totalSteps, config.save_steps),
  total_flos: tokens * plan.flopsPerToken,
  train_batch_size: config.per_device_train_batch_size,
})

const unwrapJson = <T>(result: Parameters<typeof unwrap<{ json: string }>>[0]): T =>
  JSON.parse(unwrap(result).json) as T
