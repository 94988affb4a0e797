// Tokenising the rows of a file several times, in a process of its own, so that RAYON_NUM_THREADS counts.
// Arguments: the model, the file, the repetitions; prints a TokenizingResult as one line of JSON.

import { resolveValues } from '../../ts/config/index.js'
import { readRows } from '../../ts/data/read_rows.js'
import { renderRows } from '../../ts/data/template.js'
import { native, unwrap } from '../../ts/native/index.js'

export interface TokenizingResult {
  rows: number
  tokens: number
  seconds: number[]
}

const [model = '', path = '', repetitions = '1'] = process.argv.slice(2)
const { config } = resolveValues({ model_name_or_path: model })
const { sources, targets } = renderRows(path, await readRows(path), config.template)
const tokenizer = unwrap(await (await native()).openTokenizer(model))
const options = { modelMaxLength: config.model_max_length, appendEos: true, maskSource: true }
const result: TokenizingResult = { rows: sources.length, tokens: 0, seconds: [] }
for (let i = 0; i < Number(repetitions); i++) {
  const started = performance.now()
  const { ids } = unwrap(await tokenizer.encodeRows(sources, targets, options))
  result.seconds.push((performance.now() - started) / 1000)
  result.tokens = ids.length
}
process.stdout.write(`${JSON.stringify(result)}\n`)
