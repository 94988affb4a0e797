// `report.html`: a run on one page that needs no network, made of its record. Everything that came from outside is
// escaped, in the page's text and in the numbers of its script alike.

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { formatBytes } from '../../config/memory.js'
import type { DataEvent } from '../../trainer/events.js'
import { lossChart, lossRange } from '../chart/loss_chart.js'
import { escaped, svg } from '../chart/svg.js'
import { epochBorders, type History, smoothed, smoothingWeight, thinned } from '../history.js'
import { closingLine } from '../log_line.js'
import { recomputedText } from '../plan_table.js'
import { formatTime } from '../progress.js'
import type { RunRecord } from '../run_record.js'
import { client } from './client.js'
import { style } from './style.js'

const resolvePackage = createRequire(import.meta.url).resolve
const library = (path: string): string => readFileSync(resolvePackage(`uplot/dist/${path}`), 'utf8')

/** No request leaves the page, whatever it may hold. */
const policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"

/** The page. */
export const html = (record: RunRecord): string => {
  const { title, history, end, startedAt, notices } = record
  return [
    '<!doctype html>',
    '<html lang="en">',
    '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">',
    `<meta http-equiv="Content-Security-Policy" content="${policy}">`,
    `<link rel="icon" href="data:,"><title>${escaped(title)}</title>`,
    `<style>${library('uPlot.min.css')}${style}</style></head>`,
    `<body><h1>${escaped(title)}</h1>`,
    startedAt === null ? '' : `<p class="faint">Started ${escaped(startedAt.toISOString())}</p>`,
    end.words === '' ? '' : `<p class="${end.how}">${escaped(end.words)}</p>`,
    tiles(record),
    '<h2>Loss</h2><div class="charts" id="loss"></div>',
    `<noscript>${svg(lossChart(history, title))}</noscript>`,
    '<p class="faint">Drag to zoom, double-click to see all again. Dashed lines: an epoch ends.</p>',
    smallCharts(history),
    closing(record),
    section('Run', runTable(record)),
    section('Notes', notices.length === 0 ? '' : notices.map((note) => `<p>${escaped(note)}</p>`).join('')),
    section('Data', dataTable(record.data)),
    section('Memory', memoryTable(record)),
    section('Options', optionTable(record)),
    `<script type="application/json" id="data">${numbers(history)}</script>`,
    `<script>${inScript(library('uPlot.iife.min.js'))}</script>`,
    `<script>${inScript(client)}</script>`,
    '</body></html>',
    '',
  ].join('\n')
}

/** A script that says `</script` would end there. */
const inScript = (text: string): string => text.replace(/<(?=\/script)/gi, '\\x3c')

/** More points than this are slow to draw and not to be told apart. */
const pointsMax = 10_000

/** What the charts draw, as JSON; a number that is none becomes null. */
const numbers = (history: History): string => {
  const { points, evaluations } = history
  const means = smoothed(
    points.map(({ loss }) => loss),
    smoothingWeight(points.length),
  )
  const rows = thinned(
    points.map((point, i) => ({ ...point, smooth: means[i] ?? null })),
    pointsMax,
  )
  const columns = {
    step: rows.map(({ step }) => step),
    loss: rows.map(({ loss }) => loss),
    smooth: rows.map(({ smooth }) => smooth),
    learningRate: rows.map(({ learningRate }) => learningRate),
    gradNorm: rows.map(({ gradNorm }) => gradNorm),
    tokensPerSecond: rows.map(({ tokensPerSecond }) => tokensPerSecond),
    range: lossRange(history),
    borders: epochBorders(points),
    evaluations: {
      step: evaluations.map(({ step }) => step),
      loss: evaluations.map(({ loss }) => loss),
    },
  }
  return JSON.stringify(columns).replaceAll('<', '\\u003c')
}

const section = (heading: string, content: string): string =>
  content === '' ? '' : `<h2>${heading}</h2>${content}`

const tiles = ({ history, closing, peakBytes, plan }: RunRecord): string => {
  const last = history.points.at(-1)
  const evaluation = history.evaluations.at(-1)
  const speeds = history.points.flatMap(({ tokensPerSecond: speed }) => (speed === null ? [] : [speed]))
  const tile = (text: string, label: string): string =>
    `<div class="tile"><b>${escaped(text)}</b><span>${escaped(label)}</span></div>`
  return [
    '<div class="tiles">',
    closing ? tile(closing.train_loss.toFixed(4), 'mean training loss') : '',
    last ? tile(last.loss.toFixed(4), `loss, step ${last.step}`) : '',
    evaluation ? tile(evaluation.loss.toFixed(4), `evaluation loss, step ${evaluation.step}`) : '',
    closing ? tile(formatTime(closing.train_runtime * 1000), 'time of training') : '',
    speeds.length > 0 ? tile(`${Math.round(median(speeds))}`, 'tokens/s, median') : '',
    peakBytes === null ? '' : tile(formatBytes(peakBytes), 'peak memory, process'),
    plan ? tile(plan.trainableParams.toLocaleString('en-US'), 'trained parameters') : '',
    '</div>',
  ].join('')
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0

const smallCharts = ({ points }: History): string => {
  const chart = (
    id: string,
    heading: string,
    key: 'learningRate' | 'gradNorm' | 'tokensPerSecond',
  ): string =>
    points.some((point) => point[key] !== null) ? `<div><h2>${heading}</h2><div id="${id}"></div></div>` : ''
  return [
    '<div class="small">',
    chart('rate', 'Learning rate', 'learningRate'),
    chart('norm', 'Gradient norm', 'gradNorm'),
    chart('speed', 'Tokens per second', 'tokensPerSecond'),
    '</div>',
  ].join('')
}

const closing = ({ closing: log }: RunRecord): string =>
  log === null ? '' : `<pre>${escaped(closingLine(log))}</pre>`

/** A table of texts; columns after the first are numbers. */
const numberTable = (head: string[], rows: string[][]): string => {
  const cells = (tag: 'td' | 'th', row: string[]): string =>
    row.map((text, i) => `<${tag}${i > 0 ? ' class="number"' : ''}>${escaped(text)}</${tag}>`).join('')
  return `<table><tr>${cells('th', head)}</tr>${rows.map((row) => `<tr>${cells('td', row)}</tr>`).join('')}</table>`
}

const dataTable = (data: readonly DataEvent[]): string => {
  if (data.length === 0) return ''
  const count = (value: number): string => value.toLocaleString('en-US')
  return numberTable(
    ['', ...data.map(({ split, path }) => `${split === 'train' ? 'training' : 'evaluation'}: ${path}`)],
    [
      ['rows', ...data.map(({ rows }) => count(rows))],
      ['rows that are used', ...data.map(({ usedRows }) => count(usedRows))],
      ['tokens', ...data.map(({ tokens }) => count(tokens))],
      ['supervised tokens', ...data.map(({ supervisedTokens }) => count(supervisedTokens))],
      ['shortest row', ...data.map(({ lengthMin }) => count(lengthMin))],
      ['mean row', ...data.map(({ lengthMean }) => lengthMean.toFixed(1))],
      ['longest row', ...data.map(({ lengthMax }) => count(lengthMax))],
      ['cut by model_max_length', ...data.map(({ cutRows }) => count(cutRows.length))],
      ['left out, nothing supervised', ...data.map(({ unsupervisedRows }) => count(unsupervisedRows.length))],
    ],
  )
}

const runTable = ({ model, plan, start }: RunRecord): string => {
  const count = (value: number): string => value.toLocaleString('en-US')
  const rows: string[][] = [
    ...(model === null
      ? []
      : [
          ['architecture', model.modelType],
          ['parameters', count(model.allParams)],
          ['trained parameters', count(model.trainableParams)],
          ['threads, instruction set', `${model.threads}, ${model.isa}`],
        ]),
    ...(start === null
      ? []
      : [
          ['steps', `${count(start.totalSteps)}, ${count(start.stepsPerEpoch)} an epoch`],
          ['rows a step', `${start.microBatchRows} × ${start.gradientAccumulationSteps}`],
          ['steps of warm-up', count(start.warmupSteps)],
        ]),
    ...(plan === null ? [] : [['computed again in backward', recomputedText(plan)]]),
  ]
  return rows.length === 0 ? '' : numberTable(['', ''], rows)
}

const memoryTable = ({ plan, peakBytes }: RunRecord): string => {
  if (plan === null) return ''
  return numberTable(
    ['', 'planned', 'measured'],
    [
      ...Object.entries(plan.bytes).map(([kind, bytes]) => [kind, formatBytes(bytes), '']),
      ['peak', formatBytes(plan.peakBytes), peakBytes === null ? '' : formatBytes(peakBytes)],
      ['budget', formatBytes(plan.budgetBytes), ''],
    ],
  )
}

/** What was said first, what stayed at its default below it. */
const optionTable = ({ options }: RunRecord): string => {
  const given = options.filter(({ origin }) => origin !== 'default')
  const others = options.filter(({ origin }) => origin === 'default')
  return [
    given.length === 0 ? '' : optionRows(given),
    others.length === 0
      ? ''
      : `<details><summary>${others.length} more at their defaults</summary>${optionRows(others)}</details>`,
  ].join('')
}

const optionRows = (options: RunRecord['options']): string => {
  const rows = options.map(
    ({ name, value, origin }) =>
      `<tr><td>${escaped(name)}</td><td class="value">${escaped(value)}</td><td class="faint">${escaped(origin)}</td></tr>`,
  )
  return `<table><tr><th>option</th><th>value</th><th>from</th></tr>${rows.join('')}</table>`
}
