// The tiny model's rows and tokenizer: held-out rows are new, everything comes out the same from the same seeds.

import { readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import test from 'ava'
import { trainBpe } from '../../scripts/tiny-model/bpe.js'
import { seededRandom } from '../../scripts/tiny-model/random.js'
import { makeHeldOutRows, makeTrainRows } from '../../scripts/tiny-model/recipe.js'
import type { Row } from '../../scripts/tiny-model/rows.js'
import { readSafetensors, writeSafetensors } from '../../scripts/tiny-model/safetensors.js'

const EXAMPLES = resolve(import.meta.dirname, '..', '..', 'examples', 'tiny')
const readRows = (name: string): Row[] => JSON.parse(readFileSync(join(EXAMPLES, name), 'utf8')) as Row[]
const key = ({ instruction, input }: Row): string => `${instruction}\n${input}`
const wordsOf = (text: string): string[] => text.match(/\p{L}+/gu) ?? []

test('the rows in examples/tiny are those that the recipe makes', (t) => {
  t.deepEqual(readRows('train.json'), makeTrainRows())
  t.deepEqual(readRows('heldout.json'), makeHeldOutRows())
})

test('no held-out row is a training row, and none repeats', (t) => {
  const [train, heldOut] = [readRows('train.json'), readRows('heldout.json')]
  const seen = new Set(train.map(key))
  t.is(seen.size, train.length)
  t.deepEqual(
    heldOut.filter((row) => seen.has(key(row))),
    [],
  )
  t.is(new Set(heldOut.map(key)).size, heldOut.length)
})

test('half of the held-out rows turn on a word that no training row has', (t) => {
  const [train, heldOut] = [readRows('train.json'), readRows('heldout.json')]
  const known = new Set(train.flatMap((row) => wordsOf(`${row.input} ${row.output}`)))
  const withNewWord = heldOut.filter((row) => wordsOf(row.input).some((word) => !known.has(word)))
  t.true(withNewWord.length >= heldOut.length * 0.45, `${withNewWord.length} of ${heldOut.length}`)
})

test('each label of the reviews is as frequent as the other', (t) => {
  const labels = readRows('heldout.json').map((row) => row.output)
  for (const [good, bad] of [
    ['positiv', 'negativ'],
    ['positive', 'negative'],
  ]) {
    const [goods, bads] = [good, bad].map((label) => labels.filter((output) => output === label).length)
    t.true(
      goods !== undefined && bads !== undefined && Math.abs(goods - bads) <= 1,
      `${good} ${goods}, ${bad} ${bads}`,
    )
  }
})

// From a second implementation of sfc32, in Python's integers.
test('random numbers are the same on every platform', (t) => {
  const random = seededRandom(1)
  t.deepEqual(
    Array.from({ length: 4 }, () => random.below(1_000_000)),
    [515_067, 350_802, 90_662, 32_217],
  )
})

test('BPE merges the most frequent pair, and of equal ones the smaller', (t) => {
  // "ab" and "cd" occur three times, "ef" twice: ab < cd, then cd, then ef; " ab" follows from its pieces.
  const { merges, vocabulary } = trainBpe(['ab', 'ab', 'ab', 'cd', 'cd', 'cd', 'ef', 'ef'], 3 + 256 + 3)
  t.deepEqual(merges, [
    ['a', 'b'],
    ['c', 'd'],
    ['e', 'f'],
  ])
  t.deepEqual(vocabulary.slice(0, 3), ['<s>', '</s>', '<pad>'])
  t.deepEqual(vocabulary.slice(-3), ['ab', 'cd', 'ef'])
})

test('BPE stops where no pair occurs twice', (t) => {
  t.is(trainBpe(['abc'], 1000).merges.length, 0)
})

test('safetensors come back, and bf16 is the nearest with ties to even', (t) => {
  const path = join(tmpdir(), `lora-train-${process.pid}.safetensors`)
  t.teardown(() => rmSync(path, { force: true }))
  // 1 + 2^-8 lies between 1 and 1 + 2^-7: the even one is 1. 1 + 3·2^-8 goes up to 1 + 2^-6.
  const values = Float32Array.of(1, -2.5, 1 + 2 ** -8, 1 + 3 * 2 ** -8)
  writeSafetensors(path, [{ name: 'x', shape: [2, 2], values }], 'F32')
  t.deepEqual(readSafetensors(path), [{ name: 'x', shape: [2, 2], values }])
  writeSafetensors(path, [{ name: 'x', shape: [2, 2], values }], 'BF16')
  const file = readFileSync(path)
  const start = 8 + Number(file.readBigUInt64LE(0))
  t.deepEqual(
    [0, 2, 4, 6].map((i) => file.readUInt16LE(start + i)),
    [0x3f80, 0xc020, 0x3f80, 0x3f82],
  )
  t.throws(() => readSafetensors(path), { message: /x is not a whole f32 tensor/ })
})
