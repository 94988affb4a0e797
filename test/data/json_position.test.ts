// The place of a fault in a JSON text, against JSON.parse as the judge of whether there is one.

import test from 'ava'
import { findJsonFault, lineAndColumn } from '../../ts/data/json_position.js'

const cases: [text: string, offset: number, expected: string][] = [
  ['', 0, 'value'],
  ['[1, 2', 5, ', or ]'],
  ['[1, 2,]', 6, 'value'],
  ['[1 2]', 3, ', or ]'],
  ['{"a" 1}', 5, ':'],
  ['{"a": 1,}', 8, 'key'],
  ['{a: 1}', 1, 'key or }'],
  ['{"a": }', 6, 'value'],
  ['[}', 1, 'value or ]'],
  ['{]', 1, 'key or }'],
  ['["a\nb"]', 3, 'the rest of a string'],
  ['["a\\x"]', 3, 'the rest of a string'],
  ['["abc', 5, 'the rest of a string'],
  ['[] []', 3, 'end of text'],
  ['[01]', 2, ', or ]'],
  ['[1.]', 2, ', or ]'],
  ['[nul]', 1, 'value or ]'],
  ['[1] // rows', 4, 'end of text'],
]

test('the first fault has its offset and says what was expected', (t) => {
  for (const [text, offset, expected] of cases) {
    t.throws(() => JSON.parse(text), undefined, text)
    t.deepEqual(findJsonFault(text), { offset, expected }, text)
  }
})

test('a text is faultless exactly where JSON.parse takes it', (t) => {
  const whole = '[{"a": [1, -2.5e+3, true, null, "x\\u00e9\\n"]}, {"b": {}, "c": []}, "", 0]'
  let state = 7
  const random = (below: number): number => {
    state = (state * 1103515245 + 12345) % 2 ** 31
    return Math.floor((state / 2 ** 31) * below)
  }
  let refused = 0
  for (let i = 0; i < 20_000; i++) {
    const at = random(whole.length)
    const inserted = '[]{},:"\\e0-. \nx'[random(14)] ?? ''
    const text = whole.slice(0, at) + inserted + whole.slice(at + random(3))
    let parses = true
    try {
      JSON.parse(text)
    } catch {
      parses = false
      refused += 1
    }
    t.is(findJsonFault(text) === null, parses, text)
  }
  t.true(refused > 10_000)
})

test('deep nesting and long strings cost no stack', (t) => {
  t.deepEqual(findJsonFault('['.repeat(1_000_000)), { offset: 1_000_000, expected: 'value or ]' })
  const long = 'a\\n'.repeat(5_000_000)
  t.deepEqual(findJsonFault(`["${long}`), { offset: 15_000_002, expected: 'the rest of a string' })
  t.deepEqual(findJsonFault(`[${'1'.repeat(5_000_000)}`), { offset: 5_000_001, expected: ', or ]' })
})

test('line and column are from 1', (t) => {
  t.deepEqual(lineAndColumn('ab\ncd', 0), { line: 1, column: 1 })
  t.deepEqual(lineAndColumn('ab\ncd', 2), { line: 1, column: 3 })
  t.deepEqual(lineAndColumn('ab\ncd', 3), { line: 2, column: 1 })
  t.deepEqual(lineAndColumn('ab\ncd', 5), { line: 2, column: 3 })
})
