// A hub of one model on 127.0.0.1: the routes that are asked for when a model is downloaded, and nothing else.

import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'

export const commit = 'c0ffee'.padEnd(40, '0')
export const id = 'org/llama-bias'
export const token = 'hf_of_the_test'

export interface Hub {
  endpoint: string
  /** `GET /path` of each request, in order. */
  asked: string[]
  /** What the hub does to the weights: sends them, ends the connection in the middle, or changes a byte. */
  weights: 'whole' | 'cut' | 'changed'
  access: 'open' | 'gated'
  close(): Promise<void>
}

/** Serves the files of `folder` as the model `org/llama-bias`, at one commit. */
export const hubOf = async (t: ExecutionContext, folder: string): Promise<Hub> => {
  const files = new Map(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name))]))
  const server = createServer((request, response) => answer(hub, files, request, response))
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const close = async (): Promise<void> => {
    server.closeAllConnections()
    await new Promise((done) => server.close(done))
  }
  t.teardown(close)
  const { port } = server.address() as AddressInfo
  const hub: Hub = {
    endpoint: `http://127.0.0.1:${port}`,
    asked: [],
    weights: 'whole',
    access: 'open',
    close,
  }
  return hub
}

const answer = (
  hub: Hub,
  files: ReadonlyMap<string, Buffer>,
  { url = '', method, headers }: IncomingMessage,
  response: ServerResponse,
): void => {
  const path = url.replace(/\?.*/, '')
  hub.asked.push(`${method} ${path}`)
  const json = (status: number, value: unknown): void => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value))
  }
  if (hub.access === 'gated' && headers.authorization !== `Bearer ${token}`)
    return json(401, { error: 'Access to model org/llama-bias is restricted.' })
  if (path === `/api/models/${id}/revision/main`) return json(200, { _id: '1', id, sha: commit })
  if (path === `/api/models/${id}/tree/${commit}`) return json(200, [...files].map(treeEntry))
  const prefix = `/${id}/resolve/${commit}/`
  const name = path.startsWith(prefix) ? path.slice(prefix.length) : ''
  const content = files.get(name)
  if (content === undefined) return json(404, { error: 'Repository not found' })
  sendFile(hub, name, content, headers.range, response)
}

const hashOf = (algorithm: string, ...parts: (string | Buffer)[]): string =>
  parts.reduce((hash, part) => hash.update(part), createHash(algorithm)).digest('hex')

/** Weights stand in large file storage, as they do on the hub. */
const treeEntry = ([path, content]: [string, Buffer]) => ({
  type: 'file',
  path,
  size: content.length,
  oid: hashOf('sha1', `blob ${content.length}\0`, content),
  ...(path.endsWith('.safetensors') && {
    lfs: { oid: hashOf('sha256', content), size: content.length, pointerSize: 130 },
  }),
})

const sendFile = (
  { weights }: Hub,
  name: string,
  content: Buffer,
  range: string | undefined,
  response: ServerResponse,
): void => {
  const etag = `"${hashOf('sha1', content)}"`
  if (range !== undefined) {
    const contentRange = `bytes 0-0/${content.length}`
    response.writeHead(206, { etag, 'content-range': contentRange }).end(content.subarray(0, 1))
    return
  }
  const harm = name.endsWith('.safetensors') ? weights : 'whole'
  response.writeHead(200, { etag, 'content-length': content.length })
  if (harm === 'cut') {
    response.write(content.subarray(0, content.length / 2), () => response.destroy())
  } else if (harm === 'changed') {
    const changed = Buffer.from(content)
    changed[changed.length - 1] = (changed.at(-1) ?? 0) ^ 1
    response.end(changed)
  } else response.end(content)
}
