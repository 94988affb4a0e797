// TensorBoard's events as protobuf messages: what `SummaryWriter` of PyTorch writes for scalars and texts.
// Encodes only the fields that these two need; the field numbers are those of tensorflow's event.proto, summary.proto,
// tensor.proto and tensor_shape.proto.

/** What an event says. */
export type Said =
  | { kind: 'version' }
  | { kind: 'scalar'; tag: string; value: number }
  | { kind: 'text'; tag: string; text: string }

/** One event, encoded. `step` 0 is left out, as protobuf leaves out every zero. */
export const event = (wallTimeSeconds: number, step: number, said: Said): Buffer =>
  Buffer.concat([
    double(1, wallTimeSeconds),
    step === 0 ? Buffer.alloc(0) : integer(2, step),
    said.kind === 'version' ? bytes(3, 'brain.Event:2') : bytes(5, bytes(1, valueOf(said))),
  ])

/** `Summary.Value`. */
const valueOf = (said: Exclude<Said, { kind: 'version' }>): Buffer =>
  said.kind === 'scalar'
    ? Buffer.concat([bytes(1, said.tag), float(2, said.value)])
    : Buffer.concat([
        bytes(1, `${said.tag}/text_summary`),
        bytes(8, textTensor(said.text)),
        bytes(9, textMetadata()),
      ])

/** `SummaryMetadata`: the text plugin shows this value. */
const textMetadata = (): Buffer => bytes(1, bytes(1, 'text'))

const typeString = 7

/** `TensorProto` of one string. */
const textTensor = (text: string): Buffer =>
  Buffer.concat([integer(1, typeString), bytes(2, bytes(2, integer(1, 1))), bytes(8, text)])

// The wire format: a field is its number and wire type in one varint, then its value.

const wire = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const

const varint = (value: number): Buffer => {
  const parts: number[] = []
  let rest = BigInt(value)
  for (; rest > 0x7fn; rest >>= 7n) parts.push(Number(rest & 0x7fn) | 0x80)
  return Buffer.from([...parts, Number(rest)])
}

const key = (field: number, type: number): Buffer => varint((field << 3) | type)

const integer = (field: number, value: number): Buffer =>
  Buffer.concat([key(field, wire.varint), varint(value)])

const bytes = (field: number, content: string | Buffer): Buffer => {
  const data = Buffer.from(content)
  return Buffer.concat([key(field, wire.bytes), varint(data.length), data])
}

const float = (field: number, value: number): Buffer => {
  const data = Buffer.alloc(4)
  data.writeFloatLE(value)
  return Buffer.concat([key(field, wire.fixed32), data])
}

const double = (field: number, value: number): Buffer => {
  const data = Buffer.alloc(8)
  data.writeDoubleLE(value)
  return Buffer.concat([key(field, wire.fixed64), data])
}
