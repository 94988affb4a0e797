// `report.html`: what it holds, that nothing from outside becomes markup, and that it runs in a browser.

import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { resolveValues } from '../../ts/config/index.js'
import type { History } from '../../ts/report/history.js'
import { html } from '../../ts/report/page/html.js'
import { emptyRecord, type RunRecord, recordOf } from '../../ts/report/run_record.js'
import { folderOf } from '../folder.js'
import { plan } from '../trainer/recorded_engine.js'
import { oscillating, smoothWithStep } from './curves.js'

const hostile = '</script><script>console.error("run")</script><img src=x onerror="console.error(1)"> \' & "'

const data = {
  type: 'data',
  split: 'train',
  path: hostile,
  rows: 4000,
  usedRows: 3999,
  tokens: 371_234,
  supervisedTokens: 200_000,
  lengthMin: 20,
  lengthMean: 92.84,
  lengthMax: 511,
  cutRows: [3],
  unsupervisedRows: [],
} as const

const recordWith = (history: History): RunRecord => ({
  ...recordOf(
    resolveValues({
      model_name_or_path: 'org/name',
      lora: { r: 16 },
      output_dir: hostile,
      template: { prompt_input: `${hostile}{instruction} {input}`, prompt_no_input: '{instruction}' },
    }),
  ),
  history,
  plan,
  peakBytes: 3 * 2 ** 30,
  data: [{ ...data, cutRows: [3], unsupervisedRows: [] }],
  notices: [hostile],
  closing: {
    train_runtime: 180191.995,
    train_samples_per_second: 0.716,
    train_steps_per_second: 0.022,
    train_loss: 0.86,
    epoch: 2,
    step: 4030,
  },
  end: { how: 'failed', words: hostile },
})

test('the page holds the run', (t) => {
  const page = html(recordWith(smoothWithStep(100)))
  for (const text of ['org/name · LoRA, r 16', '371,234', '92.8', '3.0 GiB', '50:03:11', 'lora.r']) {
    t.true(page.includes(text), text)
  }
  t.regex(page, /&#39;train_runtime&#39;: 180191\.995/)
  t.regex(page, /<td>lora\.r<\/td><td class="value">16<\/td><td class="faint">call<\/td>/)
  t.regex(page, /<td>seed<\/td><td class="value">42<\/td><td class="faint">default<\/td>/)
})

test('nothing from outside becomes markup', (t) => {
  const page = html(recordWith(smoothWithStep(20)))
  t.is([...page.matchAll(/<script/g)].length, 3)
  t.is([...page.matchAll(/<\/script/gi)].length, 3)
  t.false(page.includes('<img'))
  t.regex(page, /Content-Security-Policy" content="default-src 'none';/)
})

test('a hundred thousand steps make a page that a browser takes at once', (t) => {
  const page = html(recordWith(oscillating(100_000)))
  t.true(page.length < 2_000_000, String(page.length))
  const [, json = ''] = /id="data">(.*?)<\/script>/s.exec(page) ?? []
  const columns = JSON.parse(json)
  t.true(columns.step.length > 5000 && columns.step.length <= 10_000)
  t.is(columns.loss.length, columns.step.length)
  t.deepEqual(columns.borders.map(Math.round), [33333, 66667])
})

test('a record of which little is known leaves out what it does not know', (t) => {
  const page = html({ ...emptyRecord('out'), history: smoothWithStep(20) })
  for (const heading of ['Data', 'Memory', 'Options', 'Notes']) t.false(page.includes(`<h2>${heading}</h2>`))
})

const browser = ['chromium', 'chromium-browser', 'google-chrome'].find(
  (name) => spawnSync(name, ['--version']).status === 0,
)
const withBrowser = browser === undefined ? test.skip : test

/** Moves the pointer over the loss, zooms in, and says what there is then. */
const visit = `<script>
addEventListener('load', () => {
  const over = document.querySelector('#loss .u-over')
  const box = over.getBoundingClientRect()
  const at = (type, share) => (type === 'mouseup' ? document : over).dispatchEvent(new MouseEvent(type, {
    bubbles: true, clientX: box.left + box.width * share, clientY: box.top + 50, button: 0, movementX: 1 }))
  const texts = () => [...document.querySelectorAll('#loss .u-value')].map((e) => e.textContent)
  at('mouseenter', 0.5)
  at('mousemove', 0.5)
  setTimeout(() => {
    const values = texts()
    at('mousedown', 0.5)
    at('mousemove', 0.75)
    at('mouseup', 0.75)
    setTimeout(() => {
      at('mousemove', 0.001)
      setTimeout(() => {
        const charts = document.querySelectorAll('canvas').length
        document.body.dataset.seen = JSON.stringify({ charts, values, zoomed: texts() })
      }, 50)
    }, 50)
  }, 50)
})
</script>`

withBrowser('in a browser it draws, shows values, zooms, and logs no error', (t) => {
  const folder = folderOf(t)
  for (const steps of [5, 4000, 100_000]) {
    const path = join(folder, `${steps}.html`)
    writeFileSync(path, html(recordWith(smoothWithStep(steps))) + visit)
    const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--enable-logging=stderr', '--v=0']
    const words = [...flags, `--user-data-dir=${folder}/profile`, '--virtual-time-budget=3000', '--dump-dom']
    const { stdout, stderr } = spawnSync(browser ?? '', [...words, `file://${path}`], {
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
      timeout: 120_000,
    })
    t.notRegex(stderr, /CONSOLE/)
    const seen = /data-seen="([^"]*)"/.exec(stdout)?.[1]?.replaceAll('&quot;', '"')
    const { charts, values, zoomed } = JSON.parse(seen ?? '{}')
    t.is(charts, 4)
    const stepOf = (texts: string[]): number => Number((texts[0] ?? '').replaceAll(',', ''))
    t.true(Math.abs(stepOf(values) / steps - 0.5) <= 0.2, `${values}`)
    t.regex(values[1], /^\d\.\d+$/)
    // At its left end, the zoomed chart is where the pointer was pressed down.
    t.true(stepOf(zoomed) >= steps * 0.4, `${zoomed}`)
  }
})
