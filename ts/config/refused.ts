// Values that will not be offered, and combinations in which an option has no effect.

import type { Rule } from './rules.js'
import type { Config } from './schema.js'
import { namesLlama } from './special_tokens.js'

/** The given tokens that only such a model gets. */
const ofLlama = ({ special_tokens: { pad_token: _, ...others } }: Config): string[] =>
  Object.entries(others).flatMap(([name, token]) => (token === null ? [] : [name]))

export const lasting: readonly Rule[] = [
  {
    option: 'fp16',
    when: ({ fp16, bf16 }) => fp16 && bf16,
    say: () => 'fp16 and bf16 are both true, and a run has one precision',
    hint: 'Keep bf16 and leave fp16 out, which is not offered.',
    refuse: true,
  },
  {
    option: 'fp16',
    when: ({ fp16 }) => fp16,
    say: () => 'fp16 is not offered: half precision needs loss scaling',
    hint: 'Use bf16 true: the same speed, and the range of f32.',
    refuse: true,
  },
  {
    option: 'quantization.load_in_8bit',
    when: ({ quantization: q }) => q?.load_in_8bit === true && q.load_in_4bit,
    say: () => 'load_in_8bit and load_in_4bit are both true, and a weight is kept in one way',
    hint: 'Keep one of the two and leave the other out.',
    refuse: true,
  },
  {
    option: 'quantization',
    when: ({ quantization: q }) => q !== null && !q.load_in_4bit && !q.load_in_8bit,
    say: () => 'quantization has no effect: neither load_in_4bit nor load_in_8bit is true',
    hint: '',
    refuse: false,
  },
  ...([4, 8] as const).map((bits): Rule => {
    const option = `load_in_${bits}bit` as const
    return {
      option: `quantization.${option}`,
      when: ({ lora, quantization }) => quantization?.[option] === true && lora === null,
      say: () => `${option} needs a section lora: weights in ${bits} bits are not trained`,
      hint: `Give a section lora, such as --lora.r 16, or leave ${option} out.`,
      refuse: true,
      unless: 'quantizing',
    }
  }),
  ...(['bnb_4bit_quant_type', 'bnb_4bit_use_double_quant', 'bnb_4bit_compute_dtype'] as const).map(
    (option): Rule => ({
      option: `quantization.${option}`,
      when: ({ quantization: q }) => q?.load_in_8bit === true && !q.load_in_4bit,
      say: () => `${option} has no effect with load_in_8bit`,
      hint: '',
      refuse: false,
    }),
  ),
  {
    option: 'quantization.bnb_4bit_compute_dtype',
    when: ({ quantization: q }) => q?.load_in_4bit === true && q.bnb_4bit_compute_dtype === 'float16',
    say: () => 'bnb_4bit_compute_dtype float16 is not offered: half precision needs loss scaling',
    hint: 'Use bfloat16: the same speed, and the range of f32.',
    refuse: true,
  },
  {
    option: 'memory',
    when: ({ memory }) => memory !== null && memory.length > 1,
    say: ({ memory }) => `memory names ${memory?.length} devices, and there is one to compute on`,
    hint: 'Give one size, such as 24GiB; `lora-train plan` takes a list.',
    refuse: true,
    unless: 'planning',
  },
  ...(['offload_optimizer', 'offload_param'] as const).map(
    (option): Rule => ({
      option,
      when: (config) =>
        config[option] !== 'none' && (option === 'offload_optimizer' || config.offload_optimizer === 'none'),
      say: (config) =>
        `${option} ${config[option]} is how it is here: what is trained with is in this machine's memory ` +
        '(`plan --memory` counts it beside cards)',
      hint: '',
      refuse: false,
    }),
  ),
  {
    option: 'bf16',
    when: ({ bf16, quantization: q }) =>
      bf16 && q?.load_in_4bit === true && q.bnb_4bit_compute_dtype === 'float32',
    say: () => 'bf16 has no effect: bnb_4bit_compute_dtype float32 decides',
    hint: '',
    refuse: false,
  },
  {
    option: 'special_tokens',
    when: (config) => !namesLlama(config.model_name_or_path) && ofLlama(config).length > 0,
    say: (config) =>
      `special_tokens: no effect of ${ofLlama(config).join(', ')}: the model's name has no "llama" in it`,
    hint: '',
    refuse: false,
  },
  {
    option: 'max_steps',
    when: ({ max_steps: steps }) => steps === 0,
    say: () => 'max_steps is 0: there is nothing to train',
    hint: 'Give a number above 0, or leave it out to train for num_train_epochs.',
    refuse: true,
  },
  {
    option: 'num_train_epochs',
    when: ({ max_steps: steps }) => steps > 0,
    say: ({ max_steps: steps }) => `num_train_epochs has no effect: max_steps ${steps} decides`,
    hint: '',
    refuse: false,
  },
  {
    option: 'warmup_ratio',
    when: ({ warmup_steps: steps }) => steps > 0,
    say: ({ warmup_steps: steps }) => `warmup_ratio has no effect: warmup_steps ${steps} decides`,
    hint: '',
    refuse: false,
  },
  ...(['warmup_steps', 'warmup_ratio'] as const).map(
    (option): Rule => ({
      option,
      when: (config) => config.lr_scheduler_type === 'constant' && (config[option] ?? 0) > 0,
      say: () =>
        `${option} has no effect with lr_scheduler_type constant; constant_with_warmup has a warm-up`,
      hint: '',
      refuse: false,
    }),
  ),
  {
    option: 'eval_strategy',
    when: (config) =>
      (config.eval_strategy !== 'no' || config.eval_on_start) && config.eval_data_path === null,
    say: () => 'there is no evaluation: eval_data_path is not given',
    hint: '',
    refuse: false,
  },
  {
    option: 'eval_data_path',
    when: (config) =>
      config.eval_strategy === 'no' && !config.eval_on_start && config.eval_data_path !== null,
    say: () => 'eval_data_path has no effect: eval_strategy is no',
    hint: '',
    refuse: false,
  },
  {
    option: 'logging_dir',
    when: ({ logging_dir, report_to }) =>
      logging_dir !== null && report_to.every((place) => place === 'none'),
    say: () => 'logging_dir has no effect: report_to is none',
    hint: '',
    refuse: false,
  },
]
