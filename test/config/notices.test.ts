// What is said once, what is refused, and what is not mentioned at all.

import test from 'ava'
import { forTraining, notices } from '../../ts/config/index.js'
import { failure, resolve } from './help.js'

const said = (...words: string[]): string[] => notices(resolve('--model', 'm', ...words))
const whole = ['--model', 'm', '--data_path', 'd', '--output_dir', 'o']

test('defaults are never mentioned', (t) => {
  t.deepEqual(said(), [])
  t.deepEqual(said('--use_dora', 'False', '--label_smoothing_factor', '0.0', '--fp16', 'false'), [])
})

test('what has no effect is said once', (t) => {
  t.deepEqual(said('--group_by_length', '--group-by-length', 'true'), [
    '--group-by-length has no effect: nothing is computed on padding, so rows of like length need not meet',
  ])
  t.deepEqual(said('--max_steps', '5', '--num_train_epochs', '2'), [
    'num_train_epochs has no effect: max_steps 5 decides',
  ])
  t.deepEqual(said('--logging_dir', 'runs'), ['logging_dir has no effect: report_to is none'])
  t.deepEqual(said('--logging_dir', 'runs', '--report_to', 'tensorboard'), [])
  t.is(said('--lr_scheduler_type', 'constant', '--warmup_ratio', '0.1').length, 1)
  t.is(said('--warmup_steps', '3', '--warmup_ratio', '0.1').length, 1)
  t.deepEqual(said('--bnb_4bit_quant_type', 'nf4'), [
    'quantization has no effect: neither load_in_4bit nor load_in_8bit is true',
  ])
  t.deepEqual(said('--bf16', '--load_in_4bit', '--lora_r', '4'), [
    'bf16 has no effect: bnb_4bit_compute_dtype float32 decides',
  ])
  const int8 = ['--bf16', '--load_in_8bit', '--lora_r', '4']
  t.deepEqual(said(...int8), [])
  t.deepEqual(said(...int8, '--bnb_4bit_quant_type', 'nf4', '--llm_int8_threshold', '6'), [
    '--llm_int8_threshold has no effect: products use the unpacked weights, and activations are never quantised',
    'bnb_4bit_quant_type has no effect with load_in_8bit',
  ])
})

test('a run needs rows and a place', (t) => {
  t.is(
    failure(t, () => forTraining(resolve('--model', 'm', '--output_dir', 'o'))).message,
    'data_path is missing',
  )
  t.is(
    failure(t, () => forTraining(resolve('--model', 'm', '--data_path', 'd'))).message,
    'output_dir is missing',
  )
  t.is(forTraining(resolve(...whole)).data_path, 'd')
})

test('what is not offered says what to use', (t) => {
  const cases: [string[], RegExp][] = [
    [['--fp16'], /Use bf16 true/],
    [['--fp16', '--bf16'], /Keep bf16/],
    [['--load_in_4bit', '--load_in_8bit', '--lora_r', '4'], /Keep one of the two/],
    [['--load_in_8bit', 'true'], /section lora.*load_in_8bit/],
    [['--load_in_4bit', 'true'], /section lora/],
    [
      ['--load_in_4bit', '--lora_r', '4', '--bnb_4bit_quant_type', 'nf4', '--bnb_4bit_compute_dtype', 'fp16'],
      /bfloat16/,
    ],
    [['--memory', '8GiB,8GiB'], /one size.*plan/],
    [['--max_steps', '0'], /above 0/],
  ]
  for (const [words, hint] of cases) {
    const error = failure(t, () => forTraining(resolve(...whole, ...words)))
    t.is(error.code, 'CONFIG')
    t.regex(error.hint, hint)
  }
})
