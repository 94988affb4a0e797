// Models whose weights PyTorch wrote as `pytorch_model.bin`, on the real engine: trained like any other, the result in
// safetensors and read back; and files that would do more than hold tensors.

import { cpSync, existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { native } from '../../ts/native/index.js'
import { runWords } from '../cli/help.js'
import { folderOf } from '../folder.js'
import { goldens, rows, shortTemplate, writeTokenizer } from './model.js'

/** A golden of `bin` with a tokenizer, and the words of a full fine-tuning of it. */
const placeOf = (t: ExecutionContext, name: string) => {
  const folder = folderOf(t)
  const model = join(folder, 'model')
  cpSync(join(goldens, 'bin', name), model, { recursive: true })
  rmSync(join(model, 'expected.safetensors'))
  writeTokenizer(model)
  const data = join(folder, 'rows.json')
  writeFileSync(data, JSON.stringify(rows(8)))
  const out = join(folder, 'out')
  const template = Object.entries(shortTemplate).flatMap(([key, text]) => [`--template.${key}`, text])
  const paths = ['--model_name_or_path', model, '--data_path', data, '--output_dir', out]
  return { folder, model, out, words: ['train', ...paths, '--max_steps', '1', ...template] }
}

for (const name of ['bloom-f32', 'mpt-f16', 'llama-bf16']) {
  test(`${name}: a full fine-tuning from .bin files writes safetensors and reads them back`, async (t) => {
    const { out, words } = placeOf(t, name)
    const { status, stdout, stderr } = await runWords(words, await native())
    t.is(status, 0, stderr)
    t.true(stdout.includes(`Checked model in ${out}: read back, its logits equal those in memory\n`), stdout)
    t.true(existsSync(join(out, 'model.safetensors')))
    t.deepEqual(
      readdirSync(out).filter((file) => file.endsWith('.bin')),
      [],
    )
    const again = words.map((word, at) => (words[at - 1] === '--model_name_or_path' ? out : word))
    t.is((await runWords([...again, '--lora', '--overwrite_output_dir'], await native())).status, 0)
  })
}

for (const [title, name, facts, change] of [
  [
    'a pickle that calls something',
    'bloom-f32',
    [/pytorch_model\.bin, byte \d+: .*`posix\.system`.*nothing was run$/m, /safetensors/],
    (model: string) =>
      cpSync(join(goldens, 'bin', 'hostile', 'system.bin'), join(model, 'pytorch_model.bin')),
  ],
  [
    'an index that names a missing shard',
    'llama-bf16',
    [/index\.json: shard pytorch_model-00002-of-\d+\.bin is missing \(it should hold `model\.layers\.0\./],
    (model: string) => {
      const shard = readdirSync(model).find((file) => file.startsWith('pytorch_model-00002-')) ?? ''
      rmSync(join(model, shard))
    },
  ],
] as const) {
  test(`${title} is refused before anything is read`, async (t) => {
    const { folder, model, words } = placeOf(t, name)
    change(model)
    const before = readdirSync(folder, { recursive: true }).sort()
    const { status, stderr } = await runWords(words, await native())
    t.is(status, 4, stderr)
    for (const fact of facts) t.regex(stderr, fact)
    t.deepEqual(readdirSync(folder, { recursive: true }).sort(), before)
  })
}
