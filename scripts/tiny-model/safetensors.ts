// The little of safetensors that the tiny model needs: one file of f32 tensors written, the same one stored as bf16.
//
// Layout: u64 length of the header, little-endian; the header, JSON; the tensors' bytes. For files of our own making:
// it checks lengths, but is no reader for files from outside (the engine has that one).

import { readFileSync, writeFileSync } from 'node:fs'

export interface Tensor {
  name: string
  shape: number[]
  /** Row-major. */
  values: Float32Array
}

type Dtype = 'F32' | 'BF16'
type Header = Record<string, { dtype: Dtype; shape: number[]; data_offsets: [number, number] }>

/** Bits of the nearest bf16, ties to even, of each value. Values are finite. */
function bf16Bits(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  return Uint16Array.from(bits, (b) => (b + 0x7fff + ((b >>> 16) & 1)) >>> 16)
}

export function writeSafetensors(path: string, tensors: Tensor[], dtype: Dtype): void {
  const header: Header & { __metadata__?: unknown } = {}
  const parts: Uint8Array[] = []
  let offset = 0
  for (const { name, shape, values } of tensors) {
    const data = dtype === 'F32' ? values : bf16Bits(values)
    parts.push(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    header[name] = { dtype, shape, data_offsets: [offset, offset + data.byteLength] }
    offset += data.byteLength
  }
  const json = Buffer.from(JSON.stringify({ __metadata__: { format: 'pt' }, ...header }))
  const padding = Buffer.alloc((8 - (json.length % 8)) % 8, ' ')
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length + padding.length))
  writeFileSync(path, Buffer.concat([length, json, padding, ...parts]))
}

/** The tensors of a file that holds only f32. Throws an Error that names the file where it holds something else. */
export function readSafetensors(path: string): Tensor[] {
  const file = readFileSync(path)
  const start = 8 + Number(file.readBigUInt64LE(0))
  const { __metadata__, ...header } = JSON.parse(file.toString('utf8', 8, start))
  return Object.entries(header as Header).map(([name, { dtype, shape, data_offsets }]) => {
    const bytes = Uint8Array.from(file.subarray(start + data_offsets[0], start + data_offsets[1]))
    if (dtype !== 'F32' || bytes.length !== 4 * shape.reduce((a, b) => a * b, 1)) {
      throw new Error(`${path}: ${name} is not a whole f32 tensor`)
    }
    return { name, shape, values: new Float32Array(bytes.buffer) }
  })
}
