// The pictures of the loss: what they show, read back from the files themselves.

import test from 'ava'
import { type Chart, lossChart } from '../../ts/report/chart/loss_chart.js'
import { palette } from '../../ts/report/chart/palette.js'
import { png } from '../../ts/report/chart/png.js'
import { svg } from '../../ts/report/chart/svg.js'
import { type History, historyOf } from '../../ts/report/history.js'
import { oscillating, smoothWithStep } from './curves.js'
import { readPng } from './png_reader.js'

/** Where the smoothed line runs: y of its middle for every fourth column of the plot, in the picture's pixels. */
const smoothLine = (file: Buffer): number[] => {
  const picture = readPng(file)
  const ys: number[] = []
  // Without the legend above the plot.
  for (let x = 140; x < picture.width - 80; x += 4) {
    const found: number[] = []
    for (let y = 128; y < picture.height - 100; y++) {
      if (picture.at(x, y) === palette.smooth.light) found.push(y)
    }
    if (found.length > 0) ys.push(found.reduce((a, b) => a + b, 0) / found.length)
  }
  return ys
}

/** How often a curve turns from rising to falling or back, small trembling left out. */
const turns = (ys: number[]): number => {
  let count = 0
  let extreme = ys[0] ?? 0
  let direction = 0
  for (const y of ys) {
    if (direction >= 0 && y < extreme - 25) [direction, count, extreme] = [-1, count + 1, y]
    else if (direction <= 0 && y > extreme + 25) [direction, count, extreme] = [1, count + 1, y]
    else if (direction >= 0 ? y > extreme : y < extreme) extreme = y
  }
  return count
}

test('a smooth curve with a step and one that oscillates are told apart by their pixels', (t) => {
  const steps = smoothLine(png(lossChart(smoothWithStep(), 'a')))
  const swings = smoothLine(png(lossChart(oscillating(), 'b')))
  t.true(steps.length > 400 && swings.length > 400)
  // y grows downwards: the first falls all the way, the second swings 14 times, up and down.
  t.is(turns(steps), 0)
  t.true(turns(swings) >= 26 && turns(swings) <= 29, String(turns(swings)))
  const middle = Math.floor(steps.length / 2)
  const before = steps[middle - 20] ?? 0
  const after = steps[middle + 50] ?? 0
  t.true(after - before > 60, 'the step at the border of the epochs')
})

const textsOf = ({ shapes }: Chart): string[] =>
  shapes.flatMap((shape) => (shape.kind === 'text' ? [shape.text] : []))

test('what the chart says: title, axes, epochs, legend', (t) => {
  const texts = textsOf(lossChart(smoothWithStep(), 'a run'))
  for (const text of ['a run', '1,000', '0.8', 'step', 'epoch 2', 'loss', 'smoothed', 'evaluation']) {
    t.true(texts.includes(text), text)
  }
  t.false(texts.includes('epoch 3'))
})

test('few points, one, none, and values that are none', (t) => {
  const at = (step: number, loss: number | string) => ({ step, loss, epoch: step / 10 })
  const cases: History[] = [
    historyOf([]),
    historyOf([at(1, 2)]),
    historyOf([at(1, 2), at(2, 2)]),
    historyOf([at(1, 1), at(2, Number.NaN), at(3, 1e308), at(4, Infinity), at(5, 2)]),
    historyOf([at(1, Number.NaN)]),
    smoothWithStep(5),
  ]
  for (const history of cases) {
    const chart = lossChart(history, 'x')
    t.notRegex(svg(chart), /NaN|Infinity/)
    t.is(readPng(png(chart)).width, 2 * chart.width)
  }
  t.true(textsOf(lossChart(historyOf([]), 'x')).includes('no loss was logged'))
})

test('a first loss far above all others does not flatten them', (t) => {
  const history = smoothWithStep(1000)
  const [first] = history.points
  if (first !== undefined) first.loss = 500
  const ys = smoothLine(png(lossChart(history, 'x')))
  t.true(Math.max(...ys) - Math.min(...ys) > 300)
})

test('names from outside stay text', (t) => {
  const text = svg(lossChart(smoothWithStep(5), `<script>alert("1")</script> & 'ä' \u0000${'x'.repeat(200)}`))
  t.notRegex(text, /<script|\u0000/)
  t.true(text.includes('&#60;script&#62;alert(&#34;1&#34;)&#60;/script&#62; &#38; &#39;ä&#39; xxx'))
  // Each element is closed: what is opened by name ends by name or in itself.
  const opened = [...text.matchAll(/<(\w+)[^>]*[^/]>|<(\w+)>/g)].length
  t.is(opened, [...text.matchAll(/<\/\w+>/g)].length)
})

test('letters that the font lacks are drawn as something', (t) => {
  const picture = readPng(png(lossChart(smoothWithStep(5), '模型 ünï')))
  let inked = 0
  for (let x = 128; x < 300; x++) for (let y = 20; y < 60; y++) if (picture.at(x, y) !== '#ffffff') inked++
  t.true(inked > 200)
})
