// Numbers and lines against what Python prints.

import test from 'ava'
import { closingLine, evalLine, logLine } from '../../ts/report/log_line.js'
import { pythonFloat, pythonRound } from '../../ts/report/python_number.js'

// repr(x) of Python 3.
const reprs = `
0.0 -0.0 1.0 2.0 -1.0
0.1 0.0001 0.00011 9.999e-05 1e-05
2e-05 -1e-05 1.2166081717612798e-11 5e-324 2.2250738585072014e-308
1.7976931348623157e+308 1000000000000000.0 9999999999999998.0 1e+16 1.5e+16
1.2345678901234568e+17 1e+17 1e+20 1e+21 1e+22
1e+100 123.456 180191.995 0.8655412262190069 4.958943843841553
0.00025 7.937323358440934e-05 8.333333333333333e-05 0.0003333333333333333 1e-10
1e-100 100.0 1000000.0 0.5 0.0625
-1.996150245444706e-194 7.581454333883296e-148 -8.57789382212775e+204 3.818526826307957e+276 -5.694946403451123e-209
-1.8948713508859093e-178 -1.4204294611674214e+196 4.1749440189827914e+270 -4.64031489464657e-246 3.132872124271458e-72
-6.604630556388117e-41 -3.80666497140512e-258 -1.8439403708362157e-247 5.521213857875556e+181 -1.6249118851359539e+137
1.0336557535322433e-22 1.0119387358662577e-121 -1.3481316636868863e+217 7.301205141223863e+172 5.341205273155281e-290
`

// x, digits, round(x, digits) of Python 3; the ties are exact in binary.
const rounded: [x: number, digits: number, result: number][] = [
  [0.65685, 4, 0.6569],
  [0.03125, 4, 0.0312],
  [0.09375, 4, 0.0938],
  [0.15625, 4, 0.1562],
  [-0.03125, 4, -0.0312],
  [-0.09375, 4, -0.0938],
  [2.675, 2, 2.67],
  [1.005, 2, 1.0],
  [0.125, 2, 0.12],
  [0.375, 2, 0.38],
  [0.625, 2, 0.62],
  [2.5, 0, 2.0],
  [3.5, 0, 4.0],
  [-1e-5, 4, -0.0],
  [4e-5, 4, 0.0],
  [5e-5, 4, 0.0001],
  [1.99995, 4, 1.9999],
  [9.99995, 4, 10.0],
  [180191.9950001, 4, 180191.995],
  [1e300, 4, 1e300],
  [0.9999999, 2, 1.0],
  [0.995, 2, 0.99],
  [123456789.12345, 4, 123456789.1234],
  [0.0715, 3, 0.071],
  [0.7165, 3, 0.717],
]

test('floats are spelled as Python spells them', (t) => {
  const texts = reprs.trim().split(/\s+/)
  t.is(texts.length, 60)
  for (const text of texts) t.is(pythonFloat(Number(text)), text)
  t.is(pythonFloat(Number.NaN), 'nan')
  t.is(pythonFloat(Number.POSITIVE_INFINITY), 'inf')
  t.is(pythonFloat(Number.NEGATIVE_INFINITY), '-inf')
})

test('every spelling reads back as the same number', (t) => {
  let state = 12345
  for (let i = 0; i < 2000; i++) {
    state = (state * 1103515245 + 12345) % 2 ** 31
    const x = ((state / 2 ** 31) * 2 - 1) * 10 ** ((i % 600) - 300)
    t.is(Number(pythonFloat(x)), x)
    t.regex(pythonFloat(x), /^-?\d+(\.\d+)?(e[+-]\d{2,3})?$/)
  }
})

test('rounding is that of Python', (t) => {
  for (const [x, digits, result] of rounded) t.is(pythonRound(x, digits), result, `round(${x}, ${digits})`)
})

const publishedLog =
  "{'loss': 0.6569, 'grad_norm': 1.2346, 'learning_rate': 1.2166081717612798e-11, 'epoch': 2.0}"
const publishedEnd =
  "{'train_runtime': 180191.995, 'train_samples_per_second': 0.716, 'train_steps_per_second': 0.022, 'train_loss': 0.8655412262190069, 'epoch': 2.0}"

test('the log line of the first run', (t) => {
  const line = logLine({
    loss: 0.656912345,
    grad_norm: 1.234567,
    learning_rate: 1.2166081717612798e-11,
    epoch: 1.9990076907,
    step: 4028,
  })
  t.is(line, publishedLog)
  const found = /\{'loss': ([-\d.e+]+),.*'learning_rate': ([-\d.e+]+),.*'epoch': ([\d.]+)\}/.exec(line)
  t.deepEqual(found?.slice(1).map(Number), [0.6569, 1.2166081717612798e-11, 2])
})

test('the closing line of the first run', (t) => {
  const line = closingLine({
    train_runtime: 180191.99500001,
    train_samples_per_second: 0.71557,
    train_steps_per_second: 0.022365,
    train_loss: 0.8655412262190069,
    epoch: 2,
    step: 4030,
  })
  t.is(line, publishedEnd)
  t.is(/'train_runtime': ([\d.]+)/.exec(line)?.[1], '180191.995')
})

test('a learning rate of zero, and a norm that four decimals would lose', (t) => {
  const line = logLine({ loss: 1, grad_norm: 0.0000123456, learning_rate: 0, epoch: 0.005, step: 1 })
  t.is(line, "{'loss': 1.0, 'grad_norm': 1.235e-05, 'learning_rate': 0.0, 'epoch': 0.01}")
})

test('the evaluation line', (t) => {
  const line = evalLine({
    eval_loss: 1.0932583808898926,
    eval_runtime: 2.123456,
    eval_samples_per_second: 94.18561,
    eval_steps_per_second: 11.7,
    epoch: 1,
    step: 5,
  })
  t.is(
    line,
    "{'eval_loss': 1.0932583808898926, 'eval_runtime': 2.1235, 'eval_samples_per_second': 94.186, 'eval_steps_per_second': 11.7, 'epoch': 1.0}",
  )
})
