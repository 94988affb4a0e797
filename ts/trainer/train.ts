// A whole training run as an async iterable of events: folders, rows, plan, loading, the loop, saving.
// The events are the only output besides the files in the output folders. Never prints, never ends the process.

import { type Config, engineOptions, formatBytes, missing, namedTokensOf } from '../config/index.js'
import type { Padding } from '../data/batches.js'
import { readTexts, readTokenRows, refuseUnknownTokens, type TokenRows, usableRows } from '../data/encode.js'
import { type NamedTokenizer, openNamedTokenizer } from '../data/tokenizer.js'
import type { EncodedRows, EngineOptions, Native, Plan, Session, Tokenizer } from '../native/contract.js'
import { LoraTrainError, unwrap } from '../native/errors.js'
import { isCancelled, throwIfCancelled, unlessCancelled } from './cancel.js'
import {
  agreementOf,
  optionsThatAgree,
  refuseOtherModel,
  refuseOtherOptions,
  refuseOtherRun,
} from './checkpoint_agreement.js'
import type { Checkpoint } from './checkpoint_files.js'
import { type Checkpointing, checkpointingOf, progressOf } from './checkpointing.js'
import { removeLeftovers } from './checkpoints.js'
import { refuseFullDisk } from './disk.js'
import type { DataEvent, Split, TrainEvent } from './events.js'
import { refuseResults } from './filled.js'
import { type Progress, progressAt, type RowOrder, trainLoop } from './loop.js'
import { modelNotices } from './model_notices.js'
import { makeFolders, statePath, writeWhole } from './output.js'
import { beginningOf } from './resume.js'
import { runLength } from './schedule.js'
import { countOf, download, load, type Result, save, unwrapJson } from './stages.js'
import { stateOf, stateText } from './state.js'
import { watched, workOf } from './working.js'

export interface TrainOptions {
  /** Ends the run: the step that runs is dropped, the last whole one saved; the last event is `interrupted`. */
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
  let progress = progressAt(0)
  const paths = [...new Set([places.outputDir, places.resultDir])]
  for (const folder of paths) await removeLeftovers(folder)
  await refuseResults(paths, config)
  const folders = await makeFolders(paths)
  let session: Session | undefined
  let checkpointing: Checkpointing | undefined
  const cancel = (): void => session?.cancel()
  signal?.addEventListener('abort', cancel)
  try {
    const { data, optionsJson, plan, begun, ...agreed } = yield* prepare(engine, config, options, places)
    const { train, evaluation, tokenizer } = data
    session = engine.openSession(optionsJson)
    const model = yield* load(session)
    for (const message of modelNotices(model, data, config)) yield { type: 'notice', message }
    refuseUnknownTokens(data.paths.train, train, model.vocabSize)
    if (evaluation !== null) refuseUnknownTokens(data.paths.eval, evaluation, model.vocabSize)
    if (begun !== null) {
      refuseOtherModel(begun, model.fingerprint)
      const restoring = workOf()
      restoring.begin({ what: 'restoring', path: begun.path, unit: 'bytes', count: countOf(session) })
      unwrap(yield* watched(restoring, session.loadState(begun.path)))
      progress = progressOf(begun)
      yield { type: 'resumed', path: begun.path, step: progress.step }
    }
    const trainerState = (at: Progress): string => stateText(stateOf(config, train.usable.length, at, plan))
    const agreement = { ...agreed.agreement, model: model.fingerprint }
    checkpointing = checkpointingOf({
      ...{ session, config, outputDir: places.outputDir, tokenizer, agreement, begun, trainerState },
    })
    const padding = paddingOf(config, tokenizer)
    const { write: checkpoint } = checkpointing
    const log = yield* trainLoop({
      ...{ session, config, train, evaluation, order, padding, progress, checkpoint, signal },
    })
    // The run is whole: what it has learnt is saved, even where the signal comes now, and that is said.
    signal?.removeEventListener('abort', cancel)

    progress.log_history.push(log)
    yield* noticing(signal, save(session, resultOf(session, config, { tokenizer, path: places.resultDir })))
    const path = statePath(places.outputDir)
    await writeWhole(path, trainerState(progress))
    yield { type: 'saved', what: 'state', path }
    yield { type: 'done', log, savedTo: places.resultDir }
  } catch (error) {
    if (!isCancelled(error)) throw error
    const { step, totalSteps } = progress
    if (checkpointing && step > (checkpointing.last()?.step ?? 0)) yield* checkpointing.write(progress)
    yield { type: 'interrupted', step, totalSteps, checkpoint: checkpointing?.last()?.path ?? null }
  } finally {
    signal?.removeEventListener('abort', cancel)
    // Whoever stops listening in the middle leaves work behind; the session must not wait for it.
    session?.cancel()
    await session?.close()
    await folders.removeEmpty()
  }
}

/** All that is known before the model is loaded. */
interface Prepared {
  data: RunData
  /** What the session is opened with. */
  optionsJson: string
  plan: Plan
  agreement: ReturnType<typeof agreementOf>
  begun: Checkpoint | null
}

/** Finds the checkpoint, brings the model here, reads the rows, plans; refuses what can't work or has no room. */
async function* prepare(
  engine: TrainEngine,
  config: Config,
  { signal, order = 'shuffled', rows }: RunOptions,
  places: Places,
): AsyncGenerator<TrainEvent, Prepared> {
  const hashing = workOf()
  const beginning = beginningOf(config, places.outputDir, { work: hashing, signal })
  const { checkpoint: begun, notices: said } = yield* watched(hashing, beginning)
  for (const message of said) yield { type: 'notice', message }
  if (begun !== null) refuseOtherOptions(begun, optionsThatAgree(config, order))
  // The adapter names the model as the config does; everything else reads the paths.
  const local = yield* download(config, rows ? ['model'] : ['model', 'tokenizer'], signal)
  // Reading the rows may take long: what is wrong with the model's files is said before.
  const unkept = JSON.stringify({ ...engineOptions(local), quantizedCache: null })
  unwrap(await unlessCancelled(signal, engine.plan(unkept)))
  throwIfCancelled(signal)
  const data = yield* rows ? givenData(rows) : readData(engine, config, local, signal)
  const { lengthMax, vocabulary } = data
  const optionsJson = JSON.stringify({ ...withSeqLength(engineOptions(local), lengthMax), ...vocabulary })
  const plan = unwrapJson<Plan>(await unlessCancelled(signal, engine.plan(optionsJson)))
  yield { type: 'plan', plan }
  refuseTooLarge(plan)
  const agreement = agreementOf(config, order, data.train)
  if (begun !== null) refuseOtherRun(begun, agreement)
  const length = runLength(data.train.usable.length, config)
  await refuseFullDisk({ config, plan, length, step: begun?.run.step ?? 0, ...places })
  throwIfCancelled(signal)
  return { data, optionsJson, plan, agreement, begun }
}

interface Places {
  outputDir: string
  resultDir: string
}

/** Where the log goes, and where the adapter or the model goes. */
const placesOf = (config: Config): Places => {
  const { output_dir: outputDir, adapter_output_dir: adapterDir } = config
  if (outputDir === null) throw missing('output_dir')
  return { outputDir, resultDir: config.lora === null ? outputDir : (adapterDir ?? outputDir) }
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
  // Read while the tokenizer is opened, on another thread. What is wrong with them is said after what is wrong with it.
  const texts = readTexts({ path, template })
  texts.catch(() => undefined)
  const tokenizerPath = local.tokenizer_name ?? local.model_name_or_path
  const { tokenizer, vocabulary, notices } = await unlessCancelled(
    signal,
    openNamedTokenizer(engine, tokenizerPath, namedTokensOf(config)),
  )
  for (const message of notices) yield { type: 'notice', message }
  const options = { template, modelMaxLength, trainOnSource: config.train_on_source }

  throwIfCancelled(signal)
  const train = await unlessCancelled(signal, readTokenRows(tokenizer, { path, ...options }, texts))
  yield dataEvent('train', path, train)
  throwIfCancelled(signal)
  let evaluation: TokenRows | null = null
  if (evalPath !== null && (config.eval_strategy !== 'no' || config.eval_on_start)) {
    const read = await unlessCancelled(signal, readTokenRows(tokenizer, { path: evalPath, ...options }))
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

/** The adapter, or the model where every parameter is trained. */
const resultOf = (
  session: Session,
  config: Config,
  { tokenizer, path }: Pick<Result, 'tokenizer' | 'path'>,
): Result =>
  config.lora === null
    ? { what: 'model', path, tokenizer, write: () => session.saveModel(path) }
    : { what: 'adapter', path, tokenizer, write: () => session.saveAdapter(path, config.model_name_or_path) }

/** Hands events on; once the signal is given, which ends nothing any more, it says what goes on. */
async function* noticing(
  signal: AbortSignal | undefined,
  events: AsyncGenerator<TrainEvent>,
): AsyncGenerator<TrainEvent> {
  let said = false
  for await (const event of events) {
    if (signal?.aborted && !said) {
      said = true
      const message =
        'the training is done: its result is being saved and checked; a second signal ends at once'
      yield { type: 'notice', message }
    }
    yield event
  }
}
