// Reads back the PNG files that this project writes, checking what a decoder checks.

import { inflateSync } from 'node:zlib'

export interface Picture {
  width: number
  height: number
  /** `#rrggbb` of a pixel. */
  at(x: number, y: number): string
}

/** CRC-32 bit by bit. */
const crc32 = (bytes: Uint8Array): number => {
  let crc = 0xffffffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0)
  }
  return ~crc >>> 0
}

/** Throws where the file is not a whole PNG of three channels without filters. */
export const readPng = (file: Buffer): Picture => {
  if (file.subarray(0, 8).toString('latin1') !== '\x89PNG\r\n\x1a\n') throw new Error('no signature')
  const chunks = new Map<string, Buffer>()
  for (let at = 8; at < file.length; ) {
    const length = file.readUInt32BE(at)
    if (crc32(file.subarray(at + 4, at + 8 + length)) !== file.readUInt32BE(at + 8 + length))
      throw new Error('crc')
    chunks.set(file.toString('latin1', at + 4, at + 8), file.subarray(at + 8, at + 8 + length))
    at += 12 + length
  }
  const [header, data] = [chunks.get('IHDR'), chunks.get('IDAT')]
  if (header === undefined || data === undefined || !chunks.has('IEND')) throw new Error('a chunk is missing')
  if (header.subarray(8).toString('hex') !== '0802000000')
    throw new Error('not 8 bits of red, green and blue')
  const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)]
  const rows = inflateSync(data)
  const stride = 1 + 3 * width
  if (rows.length !== height * stride) throw new Error('size')
  for (let y = 0; y < height; y++) if (rows[y * stride] !== 0) throw new Error('filter')
  const at = (x: number, y: number): string =>
    `#${rows.subarray(y * stride + 1 + 3 * x, y * stride + 4 + 3 * x).toString('hex')}`
  return { width, height, at }
}
