// A model in 4 or 8 bits as a folder that Transformers loads, as an async iterable of events: the model is loaded as a
// training loads it, written and read back. Never prints, never ends the process.

import { type Config, engineOptions, missing, namedTokensOf } from '../config/index.js'
import { openNamedTokenizer } from '../data/tokenizer.js'
import type { EngineOptions, Native, Plan, Session } from '../native/contract.js'
import { LoraTrainError, unwrap } from '../native/errors.js'
import { isCancelled, throwIfCancelled, unlessCancelled } from './cancel.js'
import { removeLeftovers } from './checkpoints.js'
import { refuseFull } from './disk.js'
import type { TrainEvent } from './events.js'
import { refuseFilled } from './filled.js'
import { modelNotices } from './model_notices.js'
import { makeFolders } from './output.js'
import { download, load, save, unwrapJson } from './stages.js'

/**
 * Writes the model of `config` to its `output_dir` in the bits that its section `quantization` says.
 *
 * Throws `USAGE` where that says none, `OUTPUT` where the folder is not empty or has no room, `MODEL_FILES` where the
 * model is quantised already, `MEMORY`, `CANCELLED`.
 */
export async function* quantizeWith(
  engine: Pick<Native, 'openTokenizer' | 'plan' | 'openSession'>,
  config: Config,
  { signal }: { signal?: AbortSignal } = {},
): AsyncGenerator<TrainEvent> {
  const path = placeOf(config)
  await removeLeftovers(path)
  await refuseFilled(path, config)
  const folders = await makeFolders([path])
  let session: Session | undefined
  const cancel = (): void => session?.cancel()
  signal?.addEventListener('abort', cancel)
  try {
    const local = yield* download(config, ['model', 'tokenizer'], signal)
    const tokenizerPath = local.tokenizer_name ?? local.model_name_or_path
    const opening = openNamedTokenizer(engine, tokenizerPath, namedTokensOf(config))
    const { tokenizer, vocabulary, notices } = await unlessCancelled(signal, opening)
    for (const message of notices) yield { type: 'notice', message }
    const optionsJson = JSON.stringify({ ...engineOptions(local), ...vocabulary, ...onlyLoaded })
    const plan = unwrapJson<Plan>(await unlessCancelled(signal, engine.plan(optionsJson)))
    // What is written are the weights as they are held; names and tables are far less.
    await refuseFull(
      [{ path, bytes: plan.bytes.weights }],
      'the model takes',
      'Free some space or choose another disk.',
    )
    throwIfCancelled(signal)
    session = engine.openSession(optionsJson)
    const opened = session
    const model = yield* load(opened)
    for (const message of modelNotices(model, { lengthMax: 1, vocabulary }, config))
      yield { type: 'notice', message }
    const write = async (): ReturnType<Session['saveQuantized']> => {
      const written = await opened.saveQuantized(path)
      // The weights are in their place: the tokenizer beside them and the reading back are no longer interrupted.
      signal?.removeEventListener('abort', cancel)
      return written
    }
    yield* save(opened, { what: 'model', path, write, tokenizer })
  } catch (error) {
    if (!isCancelled(error)) throw error
    throw new LoraTrainError('CANCELLED', 'interrupted', 'Start the command again: nothing was written.')
  } finally {
    signal?.removeEventListener('abort', cancel)
    session?.cancel()
    await session?.close()
    await folders.removeEmpty()
  }
}

/** The model is opened to be written: nothing is trained, and nothing kept elsewhere. */
const onlyLoaded: Pick<EngineOptions, 'method' | 'quantizedCache' | 'plan'> = {
  method: { kind: 'none' },
  quantizedCache: null,
  plan: { seqLength: 1, microBatch: 1, gradientAccumulation: 1 },
}

/** The output folder of a config that says in how many bits. */
const placeOf = ({ quantization, output_dir: path }: Config): string => {
  if (quantization === null || quantization.load_in_4bit === quantization.load_in_8bit) {
    const how = quantization?.load_in_4bit === true ? 'both' : 'neither'
    throw new LoraTrainError(
      'USAGE',
      `quantize takes one of load_in_4bit and load_in_8bit, and ${how} of them is true`,
      'Give --load_in_4bit true, with --bnb_4bit_quant_type nf4 or fp4, or --load_in_8bit true.',
    )
  }
  if (path === null) throw missing('output_dir')
  return path
}
