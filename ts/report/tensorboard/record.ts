// TFRecord framing: each record stands between its length and its checksum, so that a reader sees where a file was
// cut off. Knows nothing of what a record holds.
//
// Layout: length u64 · masked crc of the length u32 · data · masked crc of the data u32, all little-endian.

/** The Castagnoli polynomial, bits reversed. */
const polynomial = 0x82f63b78

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ polynomial : crc >>> 1
  return crc
})

/**
 * CRC-32C of `bytes` (RFC 3720, B.4).
 *
 * @example
 * crc32c(Buffer.from('123456789')) // 0xe3069283
 */
export const crc32c = (bytes: Uint8Array): number => {
  let crc = 0xffffffff
  for (const byte of bytes) crc = (table[(crc ^ byte) & 0xff] ?? 0) ^ (crc >>> 8)
  return (crc ^ 0xffffffff) >>> 0
}

/** A checksum of data that holds checksums is weak; so TFRecord rotates it by 15 bits and adds a constant. */
const masked = (crc: number): number => (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0

/** One record, as it stands in a file. */
export const record = (data: Uint8Array): Buffer => {
  const framed = Buffer.alloc(8 + 4 + data.length + 4)
  framed.writeBigUInt64LE(BigInt(data.length), 0)
  framed.writeUInt32LE(masked(crc32c(framed.subarray(0, 8))), 8)
  framed.set(data, 12)
  framed.writeUInt32LE(masked(crc32c(data)), 12 + data.length)
  return framed
}
