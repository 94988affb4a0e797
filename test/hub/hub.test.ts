// Models by hub id, from a hub on 127.0.0.1: what is downloaded, what comes from the cache, and what failures say.

import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { resolveValues } from '../../ts/config/index.js'
import { type HubOptions, isHubId, localConfig, type Need } from '../../ts/hub/resolve.js'
import type { EngineOptions } from '../../ts/native/contract.js'
import { LoraTrainError } from '../../ts/native/errors.js'
import { createReport } from '../../ts/report/index.js'
import type { HubEvent } from '../../ts/trainer/events.js'
import { planWith } from '../../ts/trainer/plan.js'
import { writeGoldenModel } from '../e2e/model.js'
import { folderOf } from '../folder.js'
import { recordedEngine } from '../trainer/recorded_engine.js'
import { base, collect, ofType } from '../trainer/run.js'
import { commit, hubOf, id, token } from './server.js'

const needed = [
  'config.json',
  'generation_config.json',
  'model.safetensors',
  'tokenizer.json',
  'tokenizer_config.json',
]

/** A hub with a golden model and files that nobody needs, and a cache that is empty. */
const setUp = async (t: ExecutionContext) => {
  const folder = folderOf(t)
  const model = writeGoldenModel(join(folder, 'model'))
  for (const name of ['pytorch_model.bin', 'pytorch_model.bin.index.json', 'flax_model.msgpack', 'README.md'])
    writeFileSync(join(model, name), 'not needed')
  const hub = await hubOf(t, model)
  const cache = join(folder, 'cache')
  const env = { HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: cache }
  const config = resolveValues({ model_name_or_path: id }).config
  const repo = join(cache, 'models--org--llama-bias')
  const events: HubEvent[] = []
  const bring = async (more: HubOptions['env'] = {}, needs: Need[] = ['model']) =>
    (
      await localConfig(config, needs, {
        env: { ...env, ...more },
        onEvent: (event) => events.push(event),
      })
    ).model_name_or_path
  return { hub, model, cache, repo, snapshot: join(repo, 'snapshots', commit), bring, events }
}

const refusal = async (t: ExecutionContext, run: () => Promise<unknown>): Promise<LoraTrainError> => {
  const error = (await t.throwsAsync(run, { instanceOf: LoraTrainError })) as LoraTrainError
  t.is(error.code, 'MODEL_FILES')
  return error
}

const blobsOf = (repo: string): string[] =>
  existsSync(join(repo, 'blobs')) ? readdirSync(join(repo, 'blobs')) : []

test('an id has one slash and is no path here', (t) => {
  t.deepEqual(
    ['org/name', 'Qwen/Qwen3-0.6B', 'ts/hub', 'name', './org/name', '/org/name', 'a/b/c', 'org/..'].map(
      isHubId,
    ),
    [true, true, false, false, false, false, false, false],
  )
})

test('what is needed is downloaded, in the layout of huggingface_hub', async (t) => {
  const { model, repo, snapshot, bring, events } = await setUp(t)
  t.is(await bring(), snapshot)
  t.deepEqual(readdirSync(snapshot).sort(), needed)
  for (const name of needed)
    t.deepEqual(readFileSync(join(snapshot, name)), readFileSync(join(model, name)), name)
  t.is(readFileSync(join(repo, 'refs', 'main'), 'utf8'), commit)
  t.is(blobsOf(repo).length, needed.length)
  t.true(blobsOf(repo).every((name) => /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(name)))

  const totalBytes = needed.reduce((sum, name) => sum + readFileSync(join(model, name)).length, 0)
  t.like(events[0], { type: 'downloading', id, doneBytes: 0, totalBytes, leftMs: null })
  t.like(events.at(-1), { type: 'downloaded', id, bytes: totalBytes, path: snapshot })
})

test('a model that has pickles only comes as they are, shards with their index', async (t) => {
  const { hub, model, bring } = await setUp(t)
  await hub.close()
  for (const [gone, added, wanted] of [
    ['model.safetensors', 'pytorch_model-00001-of-00001.bin', ['pytorch_model.bin']],
    ['pytorch_model.bin', 'README.md', ['pytorch_model-00001-of-00001.bin', 'pytorch_model.bin.index.json']],
  ] as const) {
    rmSync(join(model, gone))
    writeFileSync(join(model, added), 'shard')
    const { endpoint } = await hubOf(t, model)
    const snapshot = await bring({ HF_ENDPOINT: endpoint, HF_HUB_CACHE: join(model, '..', gone) })
    const weights = readdirSync(snapshot).filter((name) => /bin|safetensors/.test(name))
    t.deepEqual(weights.sort(), wanted)
    const offline = { HF_HUB_CACHE: join(model, '..', gone), HF_HUB_OFFLINE: '1' }
    t.is(await bring(offline), snapshot)
  }
})

test('a second time the hub is asked for the list alone', async (t) => {
  const { hub, snapshot, bring, events } = await setUp(t)
  await bring()
  hub.asked.length = 0
  events.length = 0
  t.is(await bring(), snapshot)
  t.deepEqual(hub.asked, [`GET /api/models/${id}/revision/main`, `GET /api/models/${id}/tree/${commit}`])
  t.deepEqual(events, [])
})

test('a tokenizer alone leaves the weights where they are', async (t) => {
  const { hub, snapshot, bring } = await setUp(t)
  t.is(await bring({}, ['tokenizer']), snapshot)
  t.deepEqual(
    readdirSync(snapshot).sort(),
    needed.filter((name) => !name.endsWith('.safetensors')),
  )
  t.false(hub.asked.some((line) => line.includes('safetensors')))
  const { message } = await refusal(t, () => bring({ HF_HUB_OFFLINE: '1' }))
  t.regex(message, /^org\/llama-bias is not whole in the hub's cache .*, and HF_HUB_OFFLINE is set$/)
})

test('a plan downloads the config alone, and takes it for no more than that', async (t) => {
  const { hub, model, cache, snapshot, bring } = await setUp(t)
  const env = { HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: cache }
  const asked: EngineOptions[] = []
  const plan = async (json: string) => {
    asked.push(JSON.parse(json))
    return { json: '{}' }
  }
  const { config } = resolveValues({ model_name_or_path: id, memory: ['24GiB', '8GiB'] })
  await planWith({ plan }, config, { env })
  t.is(asked[0]?.model, snapshot)
  t.deepEqual(asked[0]?.question, { devices: [24 * 2 ** 30, 8 * 2 ** 30], offload: null })
  t.deepEqual(readdirSync(snapshot), ['config.json'])
  t.deepEqual(readFileSync(join(snapshot, 'config.json')), readFileSync(join(model, 'config.json')))
  t.deepEqual(
    hub.asked.filter((line) => line.includes('/resolve/')).filter((line) => !line.endsWith('config.json')),
    [],
  )
  t.is(await bring({ HF_HUB_OFFLINE: '1' }, ['config']), snapshot)
  for (const need of ['tokenizer', 'model'] as const)
    t.regex((await refusal(t, () => bring({ HF_HUB_OFFLINE: '1' }, [need]))).message, /is not whole/)
  await bring()
  t.deepEqual(readdirSync(snapshot).sort(), needed)
})

test('offline only the cache is read', async (t) => {
  const { hub, snapshot, bring } = await setUp(t)
  t.regex((await refusal(t, () => bring({ HF_HUB_OFFLINE: '1' }))).hint, /^Run once without HF_HUB_OFFLINE/)
  t.deepEqual(hub.asked, [])
  await bring()
  hub.asked.length = 0
  t.is(await bring({ HF_HUB_OFFLINE: 'true' }), snapshot)
  t.deepEqual(hub.asked, [])
})

test('a hub that is away: the cache with a note, else an error that names HF_ENDPOINT', async (t) => {
  const { hub, snapshot, cache, bring, events } = await setUp(t)
  await bring()
  await hub.close()
  t.is(await bring(), snapshot)
  t.like(events.at(-1), { type: 'notice' })
  const { message, hint } = await refusal(t, () => bring({ HF_HUB_CACHE: `${cache}-2` }))
  t.regex(message, /^the hub can't be reached: .*ECONNREFUSED/)
  t.regex(hint, /HF_ENDPOINT.*HF_HUB_OFFLINE/)
})

test('a model that the hub does not have', async (t) => {
  const { hub, cache } = await setUp(t)
  const env = { HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: cache }
  const { config } = resolveValues({ model_name_or_path: 'org/nothing' })
  const { message, hint } = await refusal(t, () => localConfig(config, ['model'], { env }))
  t.is(message, 'org/nothing is no path here, and the hub has no such model')
  t.regex(hint, /spelling/)
})

test('a gated model asks for HF_TOKEN, and comes with it', async (t) => {
  const { hub, snapshot, bring } = await setUp(t)
  hub.access = 'gated'
  const { message, hint } = await refusal(t, () => bring())
  t.regex(message, /gives no access to it \(status 401\)$/)
  t.regex(hint, /HF_TOKEN/)
  t.is((await refusal(t, () => bring({ HF_TOKEN: 'secret' }))).message, 'HF_TOKEN is no token of the hub')
  t.is(await bring({ HF_TOKEN: token }), snapshot)
})

for (const [harm, says] of [
  ['cut', /^the download of model\.safetensors from the hub failed: /],
  ['changed', /its hash is not what the hub says$/],
] as const) {
  test(`weights that come ${harm} are never used, and come whole the next time`, async (t) => {
    const { hub, model, repo, snapshot, bring } = await setUp(t)
    hub.weights = harm
    t.regex((await refusal(t, () => bring())).message, says)
    t.false(existsSync(snapshot))
    t.false(existsSync(join(repo, 'refs')))
    t.is(blobsOf(repo).length, needed.length - 1)
    await refusal(t, () => bring({ HF_HUB_OFFLINE: '1' }))

    hub.weights = 'whole'
    hub.asked.length = 0
    t.is(await bring(), snapshot)
    t.false(hub.asked.some((line) => line.endsWith('config.json')))
    const [got, sent] = [snapshot, model].map((folder) => readFileSync(join(folder, 'model.safetensors')))
    t.deepEqual(got, sent)
  })
}

test('a signal ends the download', async (t) => {
  const { hub, cache, repo } = await setUp(t)
  const { config } = resolveValues({ model_name_or_path: id })
  const controller = new AbortController()
  const options = {
    env: { HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: cache },
    signal: controller.signal,
    onEvent: () => controller.abort(),
  }
  const error = await t.throwsAsync(() => localConfig(config, ['model'], options), {
    instanceOf: LoraTrainError,
  })
  t.is((error as LoraTrainError).code, 'CANCELLED')
  t.deepEqual(blobsOf(repo), [])
})

// The only test here that changes the process's environment; the others are given theirs.
test.serial('a run reads the cache, and its adapter names the id', async (t) => {
  const { hub, cache, snapshot } = await setUp(t)
  Object.assign(process.env, { HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: cache })
  t.teardown(() => {
    delete process.env.HF_ENDPOINT
    delete process.env.HF_HUB_CACHE
  })
  const { engine, asked } = recordedEngine()
  const events = await collect(engine, { ...base(t), model_name_or_path: id })
  t.is(ofType(events, 'downloaded')[0]?.path, snapshot)
  t.true(asked.calls.includes(`openTokenizer ${snapshot}`))
  t.true(asked.calls.includes(`saveAdapter ${id}`))
  t.true(asked.options.every(({ model }) => model === snapshot))
})

test('the report shows how far a download is, and the time left', (t) => {
  let lines = ''
  let drawn = ''
  const report = createReport({
    stdout: { write: (text) => (lines += text) },
    stderr: { isTTY: true, columns: 100, write: (text) => (drawn += text) },
    format: 'text',
    progressStyle: 'shown',
  })
  const [doneBytes, totalBytes] = [2 ** 30, 2 ** 32]
  report({ type: 'downloading', id, doneBytes, totalBytes, elapsedMs: 60_000, leftMs: 180_000 })
  t.regex(drawn, /Downloading org\/llama-bias: {2}25%\|██▌ {7}\| 1\.0 GiB\/4\.0 GiB \[01:00<03:00\]/)
  report({ type: 'downloaded', id, bytes: totalBytes, elapsedMs: 240_000, path: 'cache/c0ffee' })
  t.is(lines, 'Downloaded org/llama-bias, 4.0 GiB, in 240.0 s to cache/c0ffee\n')
})
