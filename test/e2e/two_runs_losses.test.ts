// The two runs on the stand-ins in f32, rows in their order, against the losses of the Transformers Trainer (and PEFT):
// tokenising, template, loop, clipping, schedule and AdamW in one number.

import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { type ConfigInput, resolveValues } from '../../ts/config/index.js'
import { readTokenRows } from '../../ts/data/encode.js'
import type { Native } from '../../ts/native/contract.js'
import { native, unwrap } from '../../ts/native/index.js'
import { folderOf } from '../folder.js'
import { collect, ofType } from '../trainer/run.js'
import { type Expected, expectedOf, linesOf, standins } from './two_runs.js'

/** DESIGN §3: losses and norms of the Trainer's logs. */
const relative = 1e-5

const response = '{instruction}\n\n### Response:'
const run = {
  bloom: {
    model_name_or_path: join(standins, 'bloom'),
    model_max_length: 2048,
    bf16: false,
  },
  mpt: {
    model_name_or_path: join(standins, 'mpt'),
    model_max_length: 1024,
    template: { prompt_input: response, prompt_no_input: response },
    quantization: {
      load_in_4bit: true,
      bnb_4bit_quant_type: 'nf4',
      bnb_4bit_use_double_quant: true,
      bnb_4bit_compute_dtype: 'float32',
    },
    lora: { r: 64, lora_alpha: 16, target_modules: ['up_proj', 'down_proj'], lora_dropout: 0, bias: 'none' },
  },
} satisfies Record<string, ConfigInput>

/** The engine, whose sessions go on with the adapter that the Trainer began with. */
const withAdapter = (engine: Native, adapter: string): Native => ({
  ...engine,
  openSession: (json) => engine.openSession(JSON.stringify({ ...JSON.parse(json), adapter })),
})

const deviation = (found: number, expected: number): number => Math.abs(found - expected) / Math.abs(expected)

const worstOf = async (
  t: ExecutionContext,
  engine: Native,
  values: ConfigInput,
  expected: Expected,
): Promise<number> => {
  const events = await collect(
    engine,
    {
      ...values,
      ...expected.arguments,
      save_strategy: 'no',
      data_path: join(standins, 'rows.json'),
      output_dir: folderOf(t),
    },
    { order: 'as given' },
  )
  const lines = ofType(events, 'log').map(({ log }) => log)
  const wanted = linesOf(expected)
  const shown = ({ learning_rate, epoch, step }: { learning_rate: number; epoch: number; step: number }) => [
    learning_rate,
    epoch,
    step,
  ]
  t.deepEqual(lines.map(shown), wanted.map(shown))
  const closing = expected.log_history.at(-1) as { train_loss: number }
  return Math.max(
    ...lines.flatMap(({ loss, grad_norm }, at) => [
      deviation(loss, wanted[at]?.loss ?? 0),
      deviation(grad_norm, wanted[at]?.grad_norm ?? 0),
    ]),
    deviation(ofType(events, 'done')[0]?.log.train_loss ?? 0, closing.train_loss),
  )
}

for (const name of ['bloom', 'mpt'] as const) {
  test(`${name}: rows have the ids and labels that Transformers' tokenizer gives`, async (t) => {
    const { config } = resolveValues(run[name])
    const tokenizer = unwrap(await (await native()).openTokenizer(config.model_name_or_path))
    const { rows } = await readTokenRows(tokenizer, {
      path: join(standins, 'rows.json'),
      template: config.template,
      modelMaxLength: config.model_max_length,
      trainOnSource: false,
    })
    const cut = (values: ArrayLike<number>, row: number): number[] =>
      Array.from(values).slice(rows.offsets[row], rows.offsets[row + 1])
    const expected = expectedOf(name).rows
    t.is(rows.offsets.length - 1, expected.length)
    expected.forEach(({ ids, answer }, row) => {
      t.deepEqual(cut(rows.ids, row), ids)
      t.deepEqual(
        cut(rows.labels, row),
        ids.map((id, at) => (at < answer ? -100 : id)),
      )
    })
  })

  test(`${name}: losses and norms are the Trainer's`, async (t) => {
    const engine = await native()
    const given = name === 'mpt' ? withAdapter(engine, join(standins, 'mpt-adapter')) : engine
    const worst = await worstOf(t, given, run[name], expectedOf(name))
    t.log(`largest relative deviation ${worst.toExponential(2)}`)
    t.true(worst <= relative, `largest relative deviation ${worst}`)
  })
}
