// `lora-train inspect`: rows as the model sees them, in colours on a terminal.

import picocolors from 'picocolors'
import { z } from 'zod'
import { checkOffered, missing, namedTokensOf, notices } from '../../config/index.js'
import { ours } from '../../config/meta.js'
import { type Inspection, inspectWith, type SeenRow } from '../../data/inspect.js'
import { localConfig } from '../../hub/resolve.js'
import { configCommand, hubOf, print } from '../command.js'
import { json } from '../options.js'

type Colors = ReturnType<typeof picocolors.createColors>

export const inspect = configCommand({
  name: 'inspect',
  summary: 'Show rows as the model sees them: tokens, supervised or masked, lengths, what is cut.',
  usage: '[CONFIG.yaml] [--rows 3] [--first 1] [--option value …]',
  options: z.strictObject({
    json,
    rows: z.int().min(0).max(100_000).default(3).meta({ description: 'Rows to show.', source: ours }),
    first: z.int().min(1).max(1e12).default(1).meta({ description: 'The first row to show.', source: ours }),
  }),
  run: async ({ resolved, own }, world) => {
    checkOffered(resolved)
    const { config } = resolved
    if (config.data_path === null) throw missing('data_path')
    print(
      world.stderr,
      notices(resolved).map((message) => `Note: ${message}`),
    )
    const local = await localConfig(config, ['tokenizer'], hubOf(world, config))
    const inspection = await inspectWith(await world.engine(), {
      tokenizerPath: local.tokenizer_name ?? local.model_name_or_path,
      tokens: namedTokensOf(config),
      path: config.data_path,
      template: config.template,
      modelMaxLength: config.model_max_length,
      trainOnSource: config.train_on_source,
      first: own.first,
      count: own.rows,
      onNotice: (message) => print(world.stderr, [`Note: ${message}`]),
    })
    const { NO_COLOR, FORCE_COLOR } = world.env
    const colored = (world.stdout.isTTY === true && !NO_COLOR) || Boolean(FORCE_COLOR)
    const lines = own.json ? [JSON.stringify(inspection)] : inspectionLines(inspection, colored)
    print(world.stdout, lines)
  },
})

/** Lines of the rows and of the numbers over all rows. Without colours each segment says what it is. */
export const inspectionLines = (inspection: Inspection, colored: boolean): string[] => {
  const colors = picocolors.createColors(colored)
  const { path, rows, tokens, supervisedTokens, cutRows, unsupervisedRows } = inspection
  const { lengthMin, lengthMedian, lengthMean, lengthMax } = inspection
  return [
    ...inspection.shown.flatMap((row) => [...rowLines(row, colors), '']),
    `${path}: ${rows} rows, ${tokens} tokens, ${supervisedTokens} of them supervised`,
    `  tokens in a row: ${lengthMin} to ${lengthMax}, median ${lengthMedian}, mean ${lengthMean.toFixed(1)}`,
    `  cut by model_max_length: ${rowNames(cutRows)}`,
    `  without a supervised token: ${rowNames(unsupervisedRows)}`,
  ]
}

const rowLines = (row: SeenRow, colors: Colors): string[] => {
  const cut = row.cut ? ', cut' : ''
  const head = `row ${row.row}: ${row.length} tokens, ${row.supervisedTokens} supervised${cut}`
  if (!colors.isColorSupported) {
    const segments = row.segments.map(
      ({ supervised, tokens }) =>
        `  ${supervised ? 'supervised' : 'masked    '} ${tokens.map(visible).join('|')}`,
    )
    return [head, ...segments]
  }
  // Every second token is underlined, so that borders show without a sign between them.
  let count = 0
  const text = row.segments
    .flatMap(({ supervised, tokens }) =>
      tokens.map((token) => {
        const shown = count++ % 2 === 0 ? visible(token) : colors.underline(visible(token))
        return supervised ? colors.green(shown) : colors.gray(shown)
      }),
    )
    .join('')
  return [colors.bold(head), `  ${text}`]
}

/** Control characters as their pictures: a row must not steer the terminal. */
const visible = (text: string): string =>
  [...text]
    .map((character) => {
      const code = character.codePointAt(0) ?? 0
      if (character === '\n') return '⏎'
      if (code < 0x20) return String.fromCodePoint(0x2400 + code)
      return code >= 0x7f && code <= 0x9f ? '␡' : character
    })
    .join('')

const namedRows = 10

const rowNames = (rows: readonly number[]): string => {
  if (rows.length === 0) return 'none'
  const more = rows.length > namedRows ? ', …' : ''
  return `${rows.length} (${rows.slice(0, namedRows).join(', ')}${more})`
}
