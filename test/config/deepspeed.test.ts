// DeepSpeed files: what they say as options, what contradicts another place, and what is refused with its line.

import { dirname, join } from 'node:path'
import test from 'ava'
import { forTraining, notices, originLines, resolveValues } from '../../ts/config/index.js'
import { exitStatus } from '../../ts/native/errors.js'
import { failure, fileOf, resolve } from './help.js'

const model = ['--model_name_or_path', 'm']
const deepspeed = (value: unknown): string => fileOf('deepspeed.json', JSON.stringify(value, null, 2))
const resolved = (value: unknown, ...words: string[]) =>
  resolve(...model, '--deepspeed', deepspeed(value), ...words)
const optimizer = (params: object, type = 'AdamW') => ({ optimizer: { type, params } })

test('values that nobody else gives take effect', (t) => {
  const { config, origins } = resolved({
    train_micro_batch_size_per_gpu: 4,
    gradient_accumulation_steps: 16,
    train_batch_size: 64,
    gradient_clipping: 0.3,
    bf16: { enabled: true },
    fp16: { enabled: false },
    optimizer: { type: 'Adam', params: { lr: 1e-5, betas: [0.8, 0.95], eps: 1e-7, weight_decay: 0.1 } },
    scheduler: {
      type: 'WarmupDecayLR',
      params: { warmup_min_lr: 0, warmup_max_lr: 1e-5, warmup_num_steps: 20, warmup_type: 'linear' },
    },
    zero_optimization: { stage: 3, offload_optimizer: { device: 'cpu' }, offload_param: { device: 'nvme' } },
  })
  t.like(config, {
    per_device_train_batch_size: 4,
    gradient_accumulation_steps: 16,
    max_grad_norm: 0.3,
    bf16: true,
    fp16: false,
    optim: 'adamw_torch',
    learning_rate: 1e-5,
    adam_beta1: 0.8,
    adam_beta2: 0.95,
    adam_epsilon: 1e-7,
    weight_decay: 0.1,
    lr_scheduler_type: 'linear',
    warmup_steps: 20,
    offload_optimizer: 'cpu',
    offload_param: 'nvme',
  })
  t.like(origins.get('adam_beta2'), { from: 'deepspeed', spelled: 'optimizer.params.betas' })
  t.like(origins.get('max_grad_norm'), { line: 5, spelled: 'gradient_clipping' })
})

test('what the file does not say keeps its default, and auto is what the option says', (t) => {
  const auto = {
    train_batch_size: 'auto',
    train_micro_batch_size_per_gpu: 'auto',
    gradient_accumulation_steps: 'auto',
    gradient_clipping: 'auto',
    bf16: { enabled: 'auto' },
    ...optimizer({ lr: 'auto', betas: 'auto', eps: 'auto', weight_decay: 'auto' }),
    scheduler: {
      type: 'WarmupLR',
      params: {
        warmup_min_lr: 'auto',
        warmup_max_lr: 'auto',
        warmup_num_steps: 'auto',
        total_num_steps: 'auto',
      },
    },
  }
  const words = ['--learning_rate', '3e-5', '--bf16', '--adam_beta2', '0.95', '--warmup_steps', '7']
  const { config } = resolved(auto, ...words)
  const plain = resolve(...model, ...words, '--lr_scheduler_type', 'constant_with_warmup').config
  t.deepEqual({ ...config, deepspeed: null }, plain)
  t.deepEqual({ ...resolved({}).config, deepspeed: null }, resolve(...model).config)
})

test('sizes that nobody gives follow from train_batch_size', (t) => {
  const of = (value: object, ...words: string[]) => {
    const { per_device_train_batch_size: micro, gradient_accumulation_steps: steps } = resolved(
      value,
      ...words,
    ).config
    return [micro, steps]
  }
  t.deepEqual(of({ train_batch_size: 12 }), [12, 1])
  t.deepEqual(of({ train_batch_size: 12, gradient_accumulation_steps: 3 }), [4, 3])
  t.deepEqual(of({ train_batch_size: 12 }, '--per_device_train_batch_size', '2'), [2, 6])
  t.deepEqual(of({ train_batch_size: 8, train_micro_batch_size_per_gpu: 'auto' }), [8, 1])
})

test('a value that contradicts another place names both', (t) => {
  const yaml = fileOf('run.yaml', 'max_grad_norm: 1\n')
  const cases: [object, string[], RegExp][] = [
    [
      { train_micro_batch_size_per_gpu: 4 },
      ['--per_device_train_batch_size', '2'],
      /^train_micro_batch_size_per_gpu \(.*deepspeed\.json:2\) says 4, --per_device_train_batch_size says 2$/,
    ],
    [
      { gradient_clipping: 0.5 },
      [yaml],
      /^gradient_clipping \(.*deepspeed\.json:2\) says 0\.5, max_grad_norm \(.*run\.yaml:1\) says 1$/,
    ],
    [
      optimizer({ betas: [0.9, 0.99] }),
      ['--adam_beta2', '0.999'],
      /^optimizer\.params\.betas \(.*:5\) says 0\.99, --adam_beta2 says 0\.999$/,
    ],
    [
      optimizer({}),
      ['--optim', 'paged_adamw_8bit'],
      /optimizer\.type .* says "adamw_torch", --optim says "paged/,
    ],
    [{ bf16: { enabled: false } }, ['--bf16'], /^bf16\.enabled \(.*:3\) says false, --bf16 says true$/],
    [
      { scheduler: { type: 'WarmupLR' } },
      ['--lr_scheduler_type', 'cosine'],
      /^scheduler\.type .* says "constant_with_warmup", --lr_scheduler_type says "cosine"$/,
    ],
    [
      { ...optimizer({ lr: 1e-5 }), scheduler: { type: 'WarmupLR', params: { warmup_max_lr: 2e-5 } } },
      [],
      /^scheduler\.params\.warmup_max_lr \(.*:11\) says 0\.00002, optimizer\.params\.lr \(.*:5\) says 0\.00001$/,
    ],
    [
      { scheduler: { type: 'WarmupLR', params: { warmup_num_steps: 5 } } },
      ['--warmup_ratio', '0.1'],
      /^scheduler\.params\.warmup_num_steps .* says 5, --warmup_ratio says 0\.1$/,
    ],
    [
      { train_batch_size: 32 },
      ['--per_device_train_batch_size', '2', '--gradient_accumulation_steps', '8'],
      /^train_batch_size \(.*:2\) is 32, and per_device_train_batch_size 2 times gradient_accumulation_steps 8 is 16$/,
    ],
    [
      { scheduler: { type: 'WarmupDecayLR', params: { total_num_steps: 100 } } },
      ['--max_steps', '50'],
      /^scheduler\.params\.total_num_steps \(.*:5\) is 100, and max_steps is 50$/,
    ],
  ]
  for (const [value, words, message] of cases) {
    const error = failure(t, () => resolved(value, ...words))
    t.regex(error.message, message)
    t.is(exitStatus(error.code), 2)
    t.regex(error.hint, /auto/)
  }
  const agreeing = resolved({ gradient_accumulation_steps: 2 }, '--gradient_accumulation_steps', '2')
  t.deepEqual(agreeing.origins.get('gradient_accumulation_steps'), {
    from: 'command line',
    flag: '--gradient_accumulation_steps',
  })
})

test('what cannot be used is refused at its line', (t) => {
  const cases: [unknown, RegExp, RegExp][] = [
    [
      { gradient_accumulaton_steps: 2 },
      /^unknown DeepSpeed key gradient_accumulaton_steps \(.*:2\)$/,
      /mean gradient_accumulation_steps\?/,
    ],
    [
      { zero_optimization: { stages: 3 } },
      /key zero_optimization\.stages \(.*:3\)$/,
      /mean zero_optimization\.stage\?/,
    ],
    [
      { zero_optimization: { offload_param: { divice: 'cpu' } } },
      /key zero_optimization\.offload_param\.divice \(.*:4\)$/,
      /mean zero_optimization\.offload_param\.device\?/,
    ],
    [optimizer({ lrr: 1 }), /key optimizer\.params\.lrr \(.*:5\)$/, /mean optimizer\.params\.lr\?/],
    [{ aio: { queue: 1 } }, /key aio\.queue \(.*:3\)$/, /queue_depth/],
    [
      { zero_optimization: { stage: 'auto' } },
      /^zero_optimization\.stage \(.*:3\) is "auto", which nothing resolves$/,
      /Write the value out/,
    ],
    [{ steps_per_print: 'auto' }, /^steps_per_print .* is "auto", which nothing resolves$/, /out/],
    [{ zero_optimization: { stage: 4 } }, /stage .* is 4, it takes 0, 1, 2 or 3$/, /number/],
    [{ zero_optimization: 3 }, /^zero_optimization .* is 3, it takes an object$/, /\{/],
    [
      { zero_optimization: { stage: 2, offload_param: { device: 'cpu' } } },
      /device .* is "cpu", which stage 2 does not do$/,
      /"stage": 3/,
    ],
    [
      { zero_optimization: { stage: 3, offload_param: { device: 'gpu' } } },
      /device \(.*:5\) is "gpu"; it takes one of none, cpu, nvme$/,
      /host/,
    ],
    [optimizer({}, 'Lamb'), /^optimizer\.type \(.*:3\) is "Lamb", which is not offered$/, /AdamW/],
    [
      optimizer({ adam_w_mode: false }, 'Adam'),
      /adam_w_mode .* is false, which is not offered$/,
      /Leave it out/,
    ],
    [optimizer({ betas: 0.9 }), /betas .* is 0\.9, it takes two numbers$/, /0\.999/],
    [
      optimizer({ lr: 'fast' }),
      /^optimizer\.params\.lr \(.*:5\) is "fast"; it takes a number from 0 to 1000$/,
      /rate/,
    ],
    [
      { scheduler: { type: 'OneCycle' } },
      /^scheduler\.type .* is "OneCycle", which is not offered$/,
      /WarmupDecayLR/,
    ],
    [
      { scheduler: { type: 'WarmupLR', params: { warmup_type: 'log' } } },
      /"log", which is not offered/,
      /linear/,
    ],
    [{ amp: { enabled: true } }, /^amp\.enabled \(.*:3\) is true, which is not offered$/, /Leave it out/],
    [{ bf16: { enabled: 'yes please' } }, /^bf16\.enabled .*it takes true or false$/, /bf16/],
  ]
  for (const [value, message, hint] of cases) {
    const error = failure(t, () => resolved(value))
    t.regex(error.message, message)
    t.regex(error.hint, hint)
    t.is(exitStatus(error.code), 2)
  }
  const whole = ['--data_path', 'd', '--output_dir', 'o']
  const half = failure(t, () => forTraining(resolved({ fp16: { enabled: true } }, ...whole)))
  t.regex(half.message, /^.*deepspeed\.json:3: fp16 is not offered/)
})

test('what is no DeepSpeed file is refused with its place', (t) => {
  const folder = dirname(fileOf('a.json', ''))
  const cases: [string, RegExp][] = [
    [join(folder, 'none.json'), /^DeepSpeed file .*none\.json does not exist$/],
    [folder, /is a folder$/],
    ...(process.platform === 'win32' ? [] : [['/dev/zero', /is no regular file$/] as [string, RegExp]]),
    [fileOf('a.json', ''), /a\.json:1:1: not JSON: expected /],
    [fileOf('a.json', '{"bf16": {\n  "enabled": true,\n}}'), /a\.json:3:1: not JSON: expected /],
    [fileOf('a.json', '{bf16: 1}'), /a\.json:1:2: not JSON: expected /],
    [fileOf('a.json', '[1]'), /a\.json holds no object$/],
    [fileOf('a.json', '{"bf16": {},\n "bf16": {}}'), /a\.json:2:2: a key stands twice$/],
    [fileOf('a.json', new Uint8Array([0xff, 0xfe])), /a\.json is not UTF-8 text$/],
    [fileOf('a.json', ' '.repeat(2 ** 20 + 1)), /1048577 bytes; 1048576 is the limit$/],
    [fileOf('a.json', `{"bf16": ${'['.repeat(1e5)}${']'.repeat(1e5)}}`), /a\.json.*nested/],
  ]
  for (const [file, message] of cases) {
    const error = failure(t, () => resolve(...model, '--deepspeed', file))
    t.regex(error.message, message)
    t.is(exitStatus(error.code), 2)
    t.true(error.hint.length > 0)
  }
  t.notThrows(() =>
    resolve(...model, '--deepspeed', fileOf('tabs.json', '{\n\t"bf16": {\n\t\t"enabled": true\n\t}\n}')),
  )
})

test('what has no effect is said in one sentence, and what DeepSpeed would do otherwise in one each', (t) => {
  const said = notices(
    resolved({
      zero_optimization: { stage: 2, overlap_comm: true, reduce_bucket_size: 'auto' },
      steps_per_print: 100,
      gradient_clipping: 1,
    }),
  )
  t.is(said.length, 1)
  t.regex(
    said[0] ?? '',
    /without effect here.*: zero_optimization\.overlap_comm, .*reduce_bucket_size, steps_per_print$/,
  )
  const more = notices(resolved({ scheduler: { type: 'WarmupCosineLR' } })).join('\n')
  t.regex(more, /no gradient_clipping.*max_grad_norm 1 counts/)
  t.regex(more, /the warm-up is linear/)
  t.regex(more, /falls to 0/)
  t.deepEqual(notices(resolved({}, '--max_grad_norm', '2')), [])
  const offload = {
    zero_optimization: { stage: 1, offload_optimizer: { device: 'cpu' } },
    gradient_clipping: 1,
  }
  t.regex(notices(resolved(offload)).join('\n'), /deepspeed\.json:5: offload_optimizer cpu is how it is here/)
})

test('the printed config has the file as origin, and reads back as the same config', (t) => {
  const found = resolved({ ...optimizer({ lr: 1e-5 }), train_batch_size: 6 })
  const lines = originLines(found)
  t.true(
    lines.some((line) =>
      /^learning_rate: 0\.00001 {2}# .*deepspeed\.json:5, optimizer\.params\.lr$/.test(line),
    ),
  )
  t.true(lines.some((line) => /^per_device_train_batch_size: 6 {2}# .*:8, train_batch_size$/.test(line)))
  t.deepEqual(resolve(fileOf('again.yaml', lines.join('\n'))).config, found.config)
})

test('the API reads the file too', (t) => {
  const path = deepspeed({ gradient_accumulation_steps: 4 })
  t.is(resolveValues({ model: 'm', deepspeed: path }).config.gradient_accumulation_steps, 4)
})
