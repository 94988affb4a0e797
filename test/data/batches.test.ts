// Encoded rows, their order and the batches of a step.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { gather, stepsOf } from '../../ts/data/batches.js'
import { IGNORED, readTokenRows, usableRows } from '../../ts/data/encode.js'
import { shuffled, splitMix64 } from '../../ts/data/order.js'
import type { RowOptions } from '../../ts/native/contract.js'
import { LoraTrainError } from '../../ts/native/errors.js'
import { folderOf } from '../folder.js'

/** Rows of the given lengths; ids count up, the first label of each row is masked. */
const encoded = (lengths: number[], unsupervised: number[] = []) => {
  const offsets = [0]
  for (const length of lengths) offsets.push((offsets.at(-1) ?? 0) + length)
  const total = offsets.at(-1) ?? 0
  const ids = Uint32Array.from({ length: total }, (_, i) => i + 100)
  const labels = Int32Array.from(ids)
  lengths.forEach((length, row) => {
    const start = offsets[row] ?? 0
    labels.fill(IGNORED, start, start + (unsupervised.includes(row) ? length : 1))
  })
  return { ids, labels, offsets: Uint32Array.from(offsets), cut: new Uint32Array() }
}

test('SplitMix64 gives its published numbers', (t) => {
  const stream = splitMix64(1234567n)
  const first = Array.from({ length: 5 }, () => stream.next().value)
  t.deepEqual(first, [
    6457827717110365317n,
    3203168211198807973n,
    9817491932198370423n,
    4593380528125082431n,
    16408922859458223821n,
  ])
})

test('each row comes once in an epoch, for any count', (t) => {
  for (const count of [0, 1, 2, 3, 10, 257, 4000]) {
    const items = Uint32Array.from({ length: count }, (_, i) => i * 3)
    const order = shuffled(items, 42, 1)
    t.deepEqual(
      [...order].sort((a, b) => a - b),
      [...items],
    )
  }
})

test('the order follows from seed and epoch alone', (t) => {
  const items = Uint32Array.from({ length: 100 }, (_, i) => i)
  t.deepEqual(shuffled(items, 42, 3), shuffled(items, 42, 3))
  t.notDeepEqual(shuffled(items, 42, 3), shuffled(items, 42, 4))
  t.notDeepEqual(shuffled(items, 42, 3), shuffled(items, 43, 3))
  t.notDeepEqual(shuffled(items, 42, 1), shuffled(items, 43, 0))
  t.notDeepEqual(shuffled(items, 42, 0), items)
})

// Computed in Python from the definition in ts/data/order.ts.
test('the order is this one on every platform', (t) => {
  const items = Uint32Array.from({ length: 10 }, (_, i) => i)
  t.deepEqual([...shuffled(items, 42, 0)], [0, 3, 5, 7, 9, 8, 2, 1, 4, 6])
  t.deepEqual([...shuffled(items, 42, 1)], [5, 2, 1, 9, 0, 6, 4, 8, 7, 3])
})

test('each place gets each row about equally often', (t) => {
  const items = Uint32Array.of(0, 1, 2, 3, 4)
  const seen = new Float64Array(25)
  const epochs = 5000
  for (let epoch = 0; epoch < epochs; epoch++) {
    shuffled(items, 7, epoch).forEach((row, place) => {
      seen[place * 5 + row] = (seen[place * 5 + row] ?? 0) + 1
    })
  }
  // 1000 expected, standard deviation 28: five of them.
  for (const count of seen) t.true(Math.abs(count - epochs / 5) < 141, String(count))
})

test('26 rows at batch 2 and accumulation 3 are steps of 3, 3, 3, 3 and 1 micro-batches', (t) => {
  const order = Uint32Array.from({ length: 26 }, (_, i) => i)
  const steps = [...stepsOf(order, { microBatchRows: 2, gradientAccumulationSteps: 3 })]
  t.deepEqual(
    steps.map((step) => step.length),
    [3, 3, 3, 3, 1],
  )
  t.deepEqual(
    steps.flat().flatMap((batch) => [...batch]),
    [...order],
  )
})

test('the last micro-batch may be short too', (t) => {
  const steps = [...stepsOf(Uint32Array.of(5, 6, 7), { microBatchRows: 2, gradientAccumulationSteps: 4 })]
  t.deepEqual(
    steps.map((step) => step.map((batch) => [...batch])),
    [[[5, 6], [7]]],
  )
})

test('packed: the rows one after another', (t) => {
  const { rows } = usableRows('r', encoded([2, 3, 1, 4, 2], []))
  const batch = gather(rows, [Uint32Array.of(3, 0), Uint32Array.of(1)], { kind: 'none' })
  t.deepEqual([...batch.ids], [106, 107, 108, 109, 100, 101, 102, 103, 104])
  t.deepEqual([...batch.labels], [-100, 107, 108, 109, -100, 101, -100, 103, 104])
  t.deepEqual([...batch.seqStarts], [0, 4, 6, 9])
  t.deepEqual([...batch.microStarts], [0, 2, 3])
})

test('padded: to the longest of each micro-batch, with masked labels, and the same tokens', (t) => {
  const { rows } = usableRows('r', encoded([2, 3, 2, 4, 2]))
  const micro = [Uint32Array.of(3, 0), Uint32Array.of(1)]
  const batch = gather(rows, micro, { kind: 'longest', padId: 9 })
  t.deepEqual([...batch.ids], [107, 108, 109, 110, 100, 101, 9, 9, 102, 103, 104])
  t.deepEqual([...batch.labels], [-100, 108, 109, 110, -100, 101, -100, -100, -100, 103, 104])
  t.deepEqual([...batch.seqStarts], [0, 4, 8, 11])
  t.deepEqual([...batch.microStarts], [0, 2, 3])
  const packed = gather(rows, micro, { kind: 'none' })
  const supervised = (labels: Int32Array) => [...labels].filter((label) => label !== IGNORED)
  t.deepEqual(supervised(batch.labels), supervised(packed.labels))
})

test('a label at the first position supervises nothing', (t) => {
  const rows = encoded([3, 3, 3])
  rows.labels.set([7, -100, -100], 3)
  const { statistics } = usableRows('r', rows)
  t.deepEqual(statistics.unsupervisedRows, [2])
  t.is(statistics.supervisedTokens, 4)
})

test('a single row without a supervised token is left out, counted and named', (t) => {
  const { rows, statistics } = usableRows('r', encoded([3, 5, 4], [1]))
  t.deepEqual([...rows.usable], [0, 2])
  t.deepEqual(statistics, {
    rows: 3,
    usedRows: 2,
    tokens: 7,
    supervisedTokens: 5,
    lengthMin: 3,
    lengthMean: 3.5,
    lengthMax: 4,
    cutRows: [],
    unsupervisedRows: [2],
  })
})

test('more than 1 % of the rows without a supervised token is a fault of the data', (t) => {
  const lengths = Array.from({ length: 300 }, () => 2)
  t.notThrows(() => usableRows('r', encoded(lengths, [4, 9, 200])))
  const error = t.throws(() => usableRows('rows.json', encoded(lengths, [4, 9, 200, 299])), {
    instanceOf: LoraTrainError,
  }) as LoraTrainError
  t.is(error.code, 'DATA')
  t.is(
    error.message,
    'rows.json: 4 of 300 rows have no supervised token (rows 5, 10, 201, 300); up to 1 % may',
  )
})

test('a file without any supervised token is a fault, however short', (t) => {
  t.throws(() => usableRows('r', encoded([4], [0])), { instanceOf: LoraTrainError })
  t.throws(() => usableRows('r', encoded([1])), { instanceOf: LoraTrainError })
})

test('the tokenizer gets prompts and answers of all rows, and the options', async (t) => {
  const path = join(folderOf(t), 'rows.jsonl')
  writeFileSync(path, '{"q": "1", "output": "a"}\n{"q": "2", "output": "b"}\n')
  const asked: [string[], string[], RowOptions][] = []
  const tokenizer = {
    encodeRows: async (...call: [string[], string[], RowOptions]) => {
      asked.push(call)
      return { ...encoded([3, 2]), cut: Uint32Array.of(1), unsupervised: new Uint32Array() }
    },
  }
  const template = { prompt_input: '{q}', prompt_no_input: 'Q {q}' }
  const { statistics } = await readTokenRows(tokenizer, {
    path,
    template,
    modelMaxLength: 3,
    trainOnSource: false,
  })
  t.deepEqual(asked, [[['Q 1', 'Q 2'], ['a', 'b'], { modelMaxLength: 3, appendEos: true, maskSource: true }]])
  t.deepEqual(statistics.cutRows, [2])
})
