// The two runs that the project exists for: their options parse word by word, as their authors wrote them.

import { homedir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { notices, refusals } from '../../ts/config/index.js'
import { resolve } from './help.js'
import { bloomWords, mptWords, runs } from './run_words.js'

const pathOf = (name: string): string => join(runs, name)

/** The command line of the full fine-tuning; its DeepSpeed file lies beside it. */
const germanWords = (): string[] =>
  bloomWords().map((word) => (word === 'deepspeed.json' ? pathOf(word) : word))

test('the full fine-tuning, after `train`, word by word', (t) => {
  const resolved = resolve(...germanWords())
  t.like(resolved.config, {
    model_name_or_path: 'malteos/bloom-6b4-clp-german',
    output_dir: './full_finetune',
    num_train_epochs: 2,
    model_max_length: 2048,
    per_device_train_batch_size: 2,
    per_device_eval_batch_size: 1,
    gradient_accumulation_steps: 8,
    eval_strategy: 'no',
    save_strategy: 'steps',
    save_steps: 400,
    save_total_limit: 3,
    learning_rate: 2e-5,
    warmup_steps: 2,
    logging_steps: 2,
    lr_scheduler_type: 'cosine',
    gradient_checkpointing: true,
    deepspeed: pathOf('deepspeed.json'),
    bf16: true,
    adam_beta2: 0.999,
    weight_decay: 0,
    optim: 'adamw_torch',
    offload_optimizer: 'cpu',
    offload_param: 'cpu',
    lora: null,
  })
  t.like(resolved.origins.get('weight_decay'), {
    from: 'deepspeed',
    spelled: 'optimizer.params.weight_decay',
  })
  const idle = notices(resolved).filter((sentence) => sentence.includes('without effect here'))
  t.is(idle.length, 1)
  for (const key of ['overlap_comm', 'sub_group_size', 'stage3_max_live_parameters', 'wall_clock_breakdown'])
    t.true(idle[0]?.includes(key), key)
  t.deepEqual(resolved.config.report_to, ['tensorboard'])
})

test('the QLoRA, as a file', (t) => {
  const resolved = resolve(pathOf('mpt-30b-qlora.yaml'))
  t.like(resolved.config, {
    model_name_or_path: join(homedir(), 'mpt_30B'),
    adapter_output_dir: './PEFT_MODEL',
    model_max_length: 1024,
    learning_rate: 2e-5,
    warmup_ratio: 0.04,
    optim: 'paged_adamw_8bit',
    max_grad_norm: 0.3,
    save_strategy: 'no',
    eval_strategy: 'steps',
    eval_steps: null,
    logging_steps: 1,
    special_tokens: { pad_token: '[PAD]', eos_token: '</s>' },
    template: { prompt_input: '{instruction}\n\n### Response:' },
    quantization: { load_in_4bit: true, bnb_4bit_quant_type: 'nf4', bnb_4bit_compute_dtype: 'bfloat16' },
    lora: { r: 64, lora_alpha: 16, lora_dropout: 0.05, bias: 'none' },
  })
  t.deepEqual(resolved.config.lora?.target_modules, ['up_proj', 'down_proj'])
  const said = notices(resolved)
  for (const name of [
    'use_fast_tokenizer',
    'padding_side',
    'device_map',
    'lora.task_type',
    'lora.inference_mode',
  ]) {
    t.is(said.filter((sentence) => sentence.startsWith(`${name} (`)).length, 1, name)
  }
  t.is(said.filter((sentence) => sentence.includes('there is no evaluation')).length, 1)
})

test('the QLoRA, as one command line, dotted and flat', (t) => {
  const { config } = resolve(pathOf('mpt-30b-qlora.yaml'))
  t.deepEqual(resolve(...mptWords('dotted')).config, { ...config })
  t.deepEqual(resolve(...mptWords('flat')).config, { ...config })
})

test('nothing of either run is refused', (t) => {
  for (const resolved of [resolve(...germanWords()), resolve(pathOf('mpt-30b-qlora.yaml'))])
    t.deepEqual(refusals(resolved), [])
})
