// An adapter's round trip on the real engine: written as PEFT writes it, read back to the same bits, and one that
// PEFT wrote read to the loss that PEFT computed.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { engineOptions, resolveValues } from '../../ts/config/index.js'
import { generate } from '../../ts/index.js'
import type { Method, Session, StepBatch } from '../../ts/native/contract.js'
import { native, unwrap } from '../../ts/native/index.js'
import { folderOf } from '../folder.js'
import { goldens, splitSafetensors, writeGoldenModel } from './model.js'

const names = readdirSync(join(goldens, 'models')).sort()

const readJson = (...path: string[]): Record<string, any> => JSON.parse(readFileSync(join(...path), 'utf8'))

/** The golden's batch without its padding: rows end where their mask does. */
const batchOf = (name: string): StepBatch => {
  const { input_ids, attention_mask, labels } = readJson(goldens, 'models', name, 'batch.json')
  const kept = (values: number[][]): number[][] =>
    values.map((row, r) => row.filter((_, at) => attention_mask[r][at] === 1))
  const ids = kept(input_ids)
  const seqStarts = [0]
  for (const row of ids) seqStarts.push((seqStarts.at(-1) ?? 0) + row.length)
  return {
    ids: Uint32Array.from(ids.flat()),
    labels: Int32Array.from(kept(labels).flat()),
    seqStarts: Uint32Array.from(seqStarts),
    microStarts: Uint32Array.of(0, ids.length),
  }
}

/** An open session on the golden model, with the method or the adapter that is named. */
const sessionOf = async (
  t: ExecutionContext,
  model: string,
  change: { method: Method; adapter: string | null },
): Promise<Session> => {
  const { config } = resolveValues({ model_name_or_path: model })
  const session = (await native()).openSession(JSON.stringify({ ...engineOptions(config), ...change }))
  t.teardown(() => session.close())
  unwrap(await session.load())
  return session
}

/** The options that the golden's adapter was made with. */
const methodOf = (config: Record<string, any>): Method => ({
  kind: 'lora',
  r: config.r,
  loraAlpha: config.lora_alpha,
  loraDropout: config.lora_dropout,
  targetModules: config.target_modules,
  bias: config.bias,
  modulesToSave: [],
  useRslora: config.use_rslora,
})

const greedy = JSON.stringify({
  maxNewTokens: 8,
  doSample: false,
  temperature: 1,
  topK: 0,
  topP: 1,
  repetitionPenalty: 1,
  seed: 0,
  eosIds: [],
  adapterEnabled: true,
})

/** Name → type and shape of the tensors of a file. */
const tensorsOf = (path: string): Record<string, { dtype: string; shape: number[] }> =>
  Object.fromEntries(
    Object.entries(splitSafetensors(path).header as Record<string, any>)
      .filter(([name]) => name !== '__metadata__')
      .map(([name, { dtype, shape }]) => [name, { dtype, shape }]),
  )

for (const name of names) {
  const theirs = join(goldens, 'models', name, 'adapter')

  test(`${name}: three steps, saved as PEFT saves it, and read back to the same bits`, async (t) => {
    const folder = folderOf(t)
    const model = writeGoldenModel(join(folder, 'model'), name)
    const config = readJson(theirs, 'adapter_config.json')
    const trained = await sessionOf(t, model, { method: methodOf(config), adapter: null })
    const batch = batchOf(name)
    const losses: number[] = []
    for (let step = 0; step < 3; step++) losses.push(unwrap(await trained.step(batch, 1e-2)).loss)
    t.true((losses[2] ?? Infinity) < (losses[0] ?? 0), 'it learns')
    const ours = join(folder, 'adapter')
    unwrap(await trained.saveAdapter(ours, name))

    t.deepEqual(
      tensorsOf(join(ours, 'adapter_model.safetensors')),
      tensorsOf(join(theirs, 'adapter_model.safetensors')),
    )
    const written = readJson(ours, 'adapter_config.json')
    t.deepEqual(Object.keys(written), Object.keys(config))
    const sorted = ({ target_modules, ...rest }: Record<string, any>) => ({
      ...rest,
      target_modules: [...target_modules].sort(),
    })
    t.deepEqual(sorted(written), sorted(config))

    const read = await sessionOf(t, model, { method: { kind: 'none' }, adapter: ours })
    t.deepEqual(unwrap(await read.evaluate(batch)), unwrap(await trained.evaluate(batch)))
    const prompt = batch.ids.slice(0, 5)
    const { ids } = unwrap(await read.generate(prompt, greedy))
    t.deepEqual(ids, unwrap(await trained.generate(prompt, greedy)).ids)
    const again = join(folder, 'again')
    unwrap(await read.saveAdapter(again, name))
    const bytes = (at: string): Buffer => readFileSync(join(at, 'adapter_model.safetensors'))
    t.true(bytes(again).equals(bytes(ours)))
  })

  test(`${name}: the adapter that PEFT wrote gives the loss that PEFT computed`, async (t) => {
    const model = writeGoldenModel(join(folderOf(t), 'model'), name)
    const expected = readJson(goldens, 'models', name, 'expected.json')
    const lossOf = async (adapter: string | null): Promise<number> => {
      const session = await sessionOf(t, model, { method: { kind: 'none' }, adapter })
      const { lossSum, supervisedTokens } = unwrap(await session.evaluate(batchOf(name)))
      return lossSum / supervisedTokens
    }
    const relative = (found: number, golden: number): number => Math.abs(found - golden) / golden
    t.true(relative(await lossOf(null), expected.loss) <= 1e-5)
    t.true(relative(await lossOf(theirs), expected.lora_loss) <= 1e-5)
  })
}

test('generate answers otherwise with an adapter, and the same twice', async (t) => {
  const model = writeGoldenModel(join(folderOf(t), 'model'))
  const question = { kind: 'text', prompt: 'repeat 1:' } as const
  const sampling = { max_new_tokens: 12 }
  const ask = async (adapter?: string): Promise<number[]> =>
    (await generate({ model_name_or_path: model }, { question, sampling, ...(adapter && { adapter }) })).ids
  const adapter = join(goldens, 'models', 'llama-bias', 'adapter')
  t.deepEqual(await ask(adapter), await ask(adapter))
  t.notDeepEqual(await ask(adapter), await ask())
})
