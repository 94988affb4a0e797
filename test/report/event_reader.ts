// Reads TensorBoard's event files for tests: framing, checksums and protobuf, written without the writer's code.

import { crc32c } from './crc.js'

export interface ReadEvent {
  wallTime: number
  step: number
  version?: string
  tag?: string
  value?: number
  text?: string
  plugin?: string
}

/** Events of all whole records, and how many bytes follow them. Throws where a checksum is wrong. */
export const readEvents = (bytes: Buffer): { events: ReadEvent[]; rest: number } => {
  const events: ReadEvent[] = []
  let at = 0
  while (bytes.length - at >= 12) {
    const length = Number(bytes.readBigUInt64LE(at))
    check(bytes.subarray(at, at + 8), bytes.readUInt32LE(at + 8))
    if (bytes.length - at < 16 + length) break
    const data = bytes.subarray(at + 12, at + 12 + length)
    check(data, bytes.readUInt32LE(at + 12 + length))
    events.push(eventOf(data))
    at += 16 + length
  }
  return { events, rest: bytes.length - at }
}

const check = (data: Buffer, masked: number): void => {
  const rotated = (masked - 0xa282ead8) >>> 0
  const crc = ((rotated >>> 17) | (rotated << 15)) >>> 0
  if (crc !== crc32c(data)) throw new Error('a checksum is wrong')
}

/** Fields of a message: the number, and a number or bytes. */
const fields = (bytes: Buffer): Map<number, number | Buffer> => {
  const found = new Map<number, number | Buffer>()
  let at = 0
  const varint = (): number => {
    let value = 0
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes.readUInt8(at++)
      value += (byte % 128) * scale
      if (byte < 128) return value
    }
  }
  while (at < bytes.length) {
    const key = varint()
    const field = Math.floor(key / 8)
    if (key % 8 === 0) found.set(field, varint())
    else if (key % 8 === 1) {
      found.set(field, bytes.readDoubleLE(at))
      at += 8
    } else if (key % 8 === 5) {
      found.set(field, bytes.readFloatLE(at))
      at += 4
    } else if (key % 8 === 2) {
      const length = varint()
      found.set(field, bytes.subarray(at, at + length))
      at += length
    } else throw new Error(`wire type ${key % 8}`)
  }
  return found
}

const inner = (message: Map<number, number | Buffer>, field: number): Map<number, number | Buffer> => {
  const bytes = message.get(field)
  return Buffer.isBuffer(bytes) ? fields(bytes) : new Map()
}

const eventOf = (bytes: Buffer): ReadEvent => {
  const event = fields(bytes)
  const found = { wallTime: event.get(1) as number, step: (event.get(2) as number | undefined) ?? 0 }
  const version = event.get(3)
  if (version !== undefined) return { ...found, version: String(version) }
  const value = inner(inner(event, 5), 1)
  const tag = String(value.get(1))
  const number = value.get(2)
  if (typeof number === 'number') return { ...found, tag, value: number }
  const plugin = String(inner(inner(value, 9), 1).get(1))
  return { ...found, tag, text: String(inner(value, 8).get(8)), plugin }
}
