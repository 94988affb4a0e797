// Options that say how long to train, in which batches, at which rate, with which optimizer.

import { z } from 'zod'
import { ours, trainingArguments as source } from '../meta.js'

const batches = { group: 'Length and batches', source } as const
const rate = { group: 'Learning rate', source } as const
const optimizer = { group: 'Optimizer', source } as const

export const lengthOptions = {
  num_train_epochs: z
    .number()
    .positive()
    .max(100_000)
    .default(3)
    .meta({
      description: 'Times to go through the rows; may be a fraction.',
      ...batches,
      aliases: ['epochs', 'num_epochs'],
    }),
  max_steps: z
    .int()
    .min(-1)
    .max(1_000_000_000)
    .default(-1)
    .meta({
      description:
        'Optimizer steps to train for, in place of num_train_epochs. -1: as num_train_epochs says.',
      ...batches,
    }),
  per_device_train_batch_size: z
    .int()
    .min(1)
    .max(65_536)
    .default(8)
    .meta({
      description: 'Rows in a micro-batch.',
      ...batches,
      aliases: ['per_gpu_train_batch_size', 'micro_batch_size'],
    }),
  per_device_eval_batch_size: z
    .int()
    .min(1)
    .max(65_536)
    .default(8)
    .meta({
      description: 'Rows in a batch of the evaluation.',
      ...batches,
      aliases: ['per_gpu_eval_batch_size'],
    }),
  gradient_accumulation_steps: z
    .int()
    .min(1)
    .max(65_536)
    .default(1)
    .meta({
      description:
        'Micro-batches in one optimizer step. The loss is the mean over all their supervised tokens.',
      ...batches,
    }),
}

export const rateOptions = {
  learning_rate: z
    .number()
    .min(0)
    .max(1000)
    .default(5e-5)
    .meta({
      description: 'Highest learning rate, reached at the end of the warm-up.',
      ...rate,
      aliases: ['lr'],
    }),
  lr_scheduler_type: z
    .enum(['linear', 'cosine', 'constant', 'constant_with_warmup'])
    .default('linear')
    .meta({
      description: 'How the rate falls after the warm-up. constant has no warm-up.',
      ...rate,
      aliases: ['lr_scheduler'],
    }),
  warmup_steps: z
    .number()
    .min(0)
    .max(1_000_000_000)
    .default(0)
    .meta({
      description: 'Steps over which the rate rises from 0; below 1, a share of all steps.',
      ...rate,
    }),
  warmup_ratio: z
    .number()
    .min(0)
    .max(1)
    .nullable()
    .default(null)
    .meta({
      description: 'Share of all steps over which the rate rises; warmup_steps above 0 comes first.',
      ...rate,
      default_text: 'none',
    }),
}

const optimizers = ['adamw_torch', 'adamw_8bit', 'paged_adamw_8bit', 'paged_adamw_32bit'] as const

export const optimizerOptions = {
  optim: z
    .enum(optimizers)
    .default('adamw_torch')
    .meta({
      description:
        'AdamW: adamw_torch keeps 8 bytes of state for each trained parameter, adamw_8bit 2 (block-wise codes, as bitsandbytes). ' +
        'paged_*: the state lies in a mapped file in output_dir, which the system may evict from memory.',
      ...optimizer,
      value_aliases: {
        adamw: 'adamw_torch',
        adamw_hf: 'adamw_torch',
        adamw_torch_fused: 'adamw_torch',
        adamw_bnb_8bit: 'adamw_8bit',
        paged_adamw: 'paged_adamw_32bit',
        paged_adamw_bnb_8bit: 'paged_adamw_8bit',
      },
    }),
  weight_decay: z
    .number()
    .min(0)
    .max(100)
    .default(0)
    .meta({
      description: 'Decoupled weight decay; norms and biases are left out.',
      ...optimizer,
    }),
  adam_beta1: z
    .number()
    .min(0)
    .lt(1)
    .default(0.9)
    .meta({
      description: 'Decay of the mean of gradients.',
      ...optimizer,
    }),
  adam_beta2: z
    .number()
    .min(0)
    .lt(1)
    .default(0.999)
    .meta({
      description: 'Decay of the mean of squared gradients.',
      ...optimizer,
    }),
  adam_epsilon: z
    .number()
    .min(0)
    .max(1)
    .default(1e-8)
    .meta({
      description: 'Added to the root of the second moment.',
      ...optimizer,
      aliases: ['adam_eps'],
    }),
  max_grad_norm: z
    .number()
    .min(0)
    .max(1e9)
    .default(1)
    .meta({
      description: 'Gradients are scaled down to this L2 norm over all of them. 0: never.',
      ...optimizer,
    }),
}

/** Where something lies that a card has no room for. */
const offload = (what: string) =>
  z
    .enum(['none', 'cpu', 'nvme'])
    .default('none')
    .meta({
      description: `${what} lie with the host beside a card. Here everything is in the machine's memory; \`plan --memory\` counts with it. nvme: counted as cpu.`,
      group: 'Precision and memory',
      source: 'DeepSpeed zero_optimization',
    })

const memory = { group: 'Precision and memory', source } as const

export const memoryOptions = {
  bf16: z
    .boolean()
    .default(false)
    .meta({
      description: 'Round the operands of matrix products to bf16; sums and the residual stream stay f32.',
      ...memory,
    }),
  fp16: z
    .boolean()
    .default(false)
    .meta({
      description: 'Not offered: half precision needs loss scaling. Use bf16.',
      ...memory,
    }),
  gradient_checkpointing: z
    .boolean()
    .nullable()
    .default(null)
    .meta({
      description:
        'True: keep no activations inside blocks and compute them again, but for those of the last block, and for what attention made where that costs most for its bytes. False: keep all.',
      ...memory,
      default_text: 'as many blocks as the memory needs',
    }),
  memory: z
    .array(
      z
        .string()
        .regex(/^\s*\d+(\.\d+)?\s*([KMGT]i?)?B?\s*$/i, 'a size such as 24GiB, 500MB or a number of bytes'),
    )
    .min(1)
    .max(64)
    .nullable()
    .default(null)
    .meta({
      description:
        'Memory to stay within, such as 24GiB. For `plan` also a list, one size per device: blocks go to the devices in order. With offload_optimizer or offload_param `plan` takes the sizes as those of cards, and says apart what the host holds beside them.',
      group: 'Precision and memory',
      source: ours,
      default_text: 'what is free',
    }),
  offload_optimizer: offload('States, masters and gradients of what is trained'),
  offload_param: offload('Weights between their uses'),
}
