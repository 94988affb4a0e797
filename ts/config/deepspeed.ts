// What a DeepSpeed file says as options: a value that it gives and nobody else is taken, one that contradicts
// another is an error that names both, "auto" is what the option says. Reads no file itself.

import { LoraTrainError } from '../native/errors.js'
import { type DeepspeedFile, type DeepspeedValue, refused } from './deepspeed_file.js'
import { type Entry, type Given, shown, told } from './origin.js'

/** Keys that say what one option says. */
const sameAs: Readonly<Record<string, string>> = {
  train_micro_batch_size_per_gpu: 'per_device_train_batch_size',
  gradient_accumulation_steps: 'gradient_accumulation_steps',
  gradient_clipping: 'max_grad_norm',
  'optimizer.params.lr': 'learning_rate',
  'optimizer.params.eps': 'adam_epsilon',
  'optimizer.params.weight_decay': 'weight_decay',
  'scheduler.params.warmup_max_lr': 'learning_rate',
  'scheduler.params.warmup_num_steps': 'warmup_steps',
  'bf16.enabled': 'bf16',
  'fp16.enabled': 'fp16',
}

/** The optimizers of DeepSpeed that are AdamW: its Adam decays weights as AdamW does, unless adam_w_mode is false. */
const optimizers = ['adam', 'adamw']

const schedulers: Readonly<Record<string, string>> = {
  WarmupLR: 'constant_with_warmup',
  WarmupDecayLR: 'linear',
  WarmupCosineLR: 'cosine',
}

/**
 * The options that the file gives, in its order.
 *
 * Throws `CONFIG` where a value asks for what is not offered.
 */
export const deepspeedEntries = (file: DeepspeedFile): Entry[] => {
  const entries: Entry[] = []
  for (const found of file.read.values()) {
    if (found.value === 'auto') continue
    const name = sameAs[found.path]
    const say = (option: string, value: unknown): void =>
      void entries.push({ name: option, value, origin: found.origin })
    if (name !== undefined) say(name, found.value)
    else if (found.path === 'optimizer.type') say('optim', optimizerOf(found))
    else if (found.path === 'optimizer.params.betas')
      betasOf(found).forEach((beta, index) => void say(`adam_beta${index + 1}`, beta))
    else if (found.path === 'scheduler.type') say('lr_scheduler_type', schedulerOf(found))
    else if (found.path.startsWith('scheduler.params.')) checkScheduler(found)
    else if (offloads(file, found))
      say(found.path.replace(/^zero_optimization\.|\.device$/g, ''), found.value)
  }
  return entries
}

const optimizerOf = (found: DeepspeedValue): string => {
  if (!optimizers.includes(String(found.value).toLowerCase()))
    throw refused(found, 'which is not offered', 'Use AdamW or Adam.')
  return 'adamw_torch'
}

const betasOf = (found: DeepspeedValue): unknown[] => {
  const { value } = found
  if (Array.isArray(value) && value.length === 2) return value
  throw refused(found, 'it takes two numbers', 'Write "betas": [0.9, 0.999].')
}

const schedulerOf = (found: DeepspeedValue): string => {
  const name = schedulers[String(found.value)]
  if (name !== undefined) return name
  throw refused(found, 'which is not offered', `Use ${Object.keys(schedulers).join(', ')}.`)
}

/** What the schedules here do anyway; anything else would be another schedule. */
const scheduleParams: Readonly<Record<string, { is: readonly unknown[]; hint: string }>> = {
  warmup_min_lr: { is: [0], hint: 'Write 0: the rate rises from 0.' },
  warmup_min_ratio: { is: [0], hint: 'Write 0: the rate rises from 0.' },
  cos_min_ratio: { is: [0], hint: 'Write 0: the rate falls to 0.' },
  warmup_type: { is: ['linear'], hint: 'Write "linear".' },
  last_batch_iteration: { is: [-1], hint: 'Leave it out.' },
}

const checkScheduler = (found: DeepspeedValue): void => {
  const known = scheduleParams[found.path.replace('scheduler.params.', '')]
  if (known !== undefined && !known.is.includes(found.value))
    throw refused(found, 'which is not offered', known.hint)
}

/** Whether a key is an offload that its stage does. */
const offloads = ({ read }: DeepspeedFile, found: DeepspeedValue): boolean => {
  const stage = read.get('zero_optimization.stage')
  if (found === stage && ![0, 1, 2, 3].includes(stage.value as number))
    throw refused(stage, 'it takes 0, 1, 2 or 3', 'Write the stage as a number.')
  if (!found.path.endsWith('.device')) return false
  const least = found.path.includes('offload_param') ? 3 : 1
  if (found.value === 'none' || found.value === null) return false
  if (Number(stage?.value ?? 0) >= least) return true
  throw refused(found, `which stage ${stage?.value ?? 0} does not do`, `Write "stage": ${least}.`)
}

/** What is known of an option after the command line, the config file and the DeepSpeed file. */
export interface Known {
  value: unknown
  origin?: Given
}

/** The error of two places that say different things. */
export const contradiction = (
  one: Entry,
  name: string,
  two: { value: unknown; origin: Given },
): LoraTrainError =>
  new LoraTrainError(
    'CONFIG',
    `${told(one.name, one.origin)} says ${shown(one.value)}, ${told(name, two.origin)} says ${shown(two.value)}`,
    'Give one of the two, or write "auto" in the DeepSpeed file.',
  )

/**
 * Holds the file's totals against the options: `train_batch_size` is the micro-batch times the accumulation, and the
 * schedule ends where the training ends. Returns options that follow.
 *
 * Throws `CONFIG` where they contradict each other.
 */
export const deepspeedTotals = ({ read }: DeepspeedFile, known: (name: string) => Known): Entry[] => {
  const steps = read.get('scheduler.params.total_num_steps')
  const maxSteps = known('max_steps')
  if (steps !== undefined && steps.value !== 'auto' && steps.value !== maxSteps.value)
    throw refused(
      steps,
      `and max_steps is ${shown(maxSteps.value)}`,
      'Write "auto": the schedule ends where the training ends; or give the same max_steps.',
    )
  const warmup = read.get('scheduler.params.warmup_num_steps')
  const ratio = known('warmup_ratio')
  if (warmup !== undefined && warmup.value !== 'auto' && ratio.origin !== undefined && ratio.value !== null)
    throw contradiction({ name: warmup.path, ...warmup }, 'warmup_ratio', { ...ratio, origin: ratio.origin })
  const total = read.get('train_batch_size')
  return total === undefined || total.value === 'auto' ? [] : batchOf(total, read, known)
}

const batchOf = (
  total: DeepspeedValue,
  read: DeepspeedFile['read'],
  known: (name: string) => Known,
): Entry[] => {
  const [micro, accumulation] = (
    [
      ['train_micro_batch_size_per_gpu', 'per_device_train_batch_size'],
      ['gradient_accumulation_steps', 'gradient_accumulation_steps'],
    ] as const
  ).map(([key, name]) => {
    const { value, origin } = known(name)
    // "auto" takes the option's value, its default too; what nobody names follows from the rest.
    return { name, value: Number(value), isOpen: origin === undefined && read.get(key) === undefined }
  }) as [Side, Side]
  const size = Number(total.value)
  const entry = ({ name }: Side, value: number): Entry => ({ name, value, origin: total.origin })
  if (Number.isInteger(size) && size > 0) {
    if (micro.isOpen && accumulation.isOpen) return [entry(micro, size), entry(accumulation, 1)]
    if (micro.isOpen && size % accumulation.value === 0) return [entry(micro, size / accumulation.value)]
    if (accumulation.isOpen && size % micro.value === 0) return [entry(accumulation, size / micro.value)]
    if (micro.value * accumulation.value === size) return []
  }
  const [one, two] = [micro, accumulation].map(({ name, value }) => `${name} ${value}`)
  throw refused(
    total,
    `and ${one} times ${two} is ${micro.value * accumulation.value}`,
    'Write "auto", or correct one of the three.',
  )
}

interface Side {
  name: string
  value: number
  isOpen: boolean
}

/** What a reader of the file should know, once each. `clips`: the norm that gradients are clipped to, by default. */
export const deepspeedNotices = (
  { file, read, idle }: DeepspeedFile,
  clipsByDefault: number | null,
): string[] => [
  ...(idle.length === 0
    ? []
    : [`${file}: without effect here, where one process computes: ${idle.join(', ')}`]),
  ...(read.has('gradient_clipping') || clipsByDefault === null || clipsByDefault === 0
    ? []
    : [
        `${file} has no gradient_clipping, with which DeepSpeed would not clip; ` +
          `max_grad_norm ${clipsByDefault} counts (0: never)`,
      ]),
  ...(read.has('scheduler.type') && !read.has('scheduler.params.warmup_type')
    ? [`${file}: the warm-up is linear; DeepSpeed's own is logarithmic unless warmup_type is "linear"`]
    : []),
  ...(read.get('scheduler.type')?.value === 'WarmupCosineLR' && !read.has('scheduler.params.cos_min_ratio')
    ? [`${file}: the rate falls to 0; DeepSpeed's own cosine ends at 0.0001 of it unless cos_min_ratio is 0`]
    : []),
]
