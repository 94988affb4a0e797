// The plan as a table: one device with the place of each line, several devices and a host with a column each.

import test from 'ava'
import type { DevicePlan, Plan, PlanBytes } from '../../ts/native/contract.js'
import { planTable, shortage, trainableLine } from '../../ts/report/index.js'

const MiB = 2 ** 20

const bytes: PlanBytes = {
  weights: 538_060_032,
  adapter: 9_768_960,
  gradients: 9_768_960,
  optimizer: 19_537_920,
  activations: 1_610_612_736,
  scratch: 16_777_216,
}

const plan: Plan = {
  bytes,
  mapped: { weights: 0, optimizer: 0 },
  peakBytes: 2_204_525_824,
  budgetBytes: 8_589_934_592,
  fits: true,
  devices: [],
  host: null,
  saved: { result: 40, checkpoint: 44 },
  countedFrom: 'headers',
  recomputedBlocks: 0,
  keepsAttention: false,
  nBlocks: 30,
  vocabSize: 49_152,
  tiedHead: true,
  trainableParams: 2_442_240,
  allParams: 136_957_248,
  flopsPerToken: 8e8,
  stepSeconds: 1.25,
  suggestions: [],
}

test('one device: each line says where it lies', (t) => {
  t.deepEqual(planTable(plan), [
    'Memory plan',
    '  weights          513.1 MiB  memory',
    '  adapter            9.3 MiB  memory',
    '  gradients          9.3 MiB  memory',
    '  optimizer state   18.6 MiB  memory',
    '  activations        1.5 GiB  memory',
    '  scratch           16.0 MiB  memory',
    '  peak               2.1 GiB',
    '  budget             8.0 GiB  one device',
    '  it fits',
    '  about 1.3 s a step',
  ])
  const tight = { ...plan, fits: false, recomputedBlocks: 30, stepSeconds: null, suggestions: ['lora.r 8'] }
  t.deepEqual(planTable(tight).slice(9), [
    '  it does not fit',
    '  computed again in backward: 30 of 30 blocks',
    'It would fit with:',
    '  lora.r 8',
  ])
  t.true(
    planTable({ ...tight, recomputedBlocks: 29, keepsAttention: true }).includes(
      '  computed again in backward: 29 of 30 blocks, but for attention',
    ),
  )
  t.is(shortage({ ...tight, budgetBytes: 2 ** 30 }), 'the run needs 2.1 GiB of memory and has 1.0 GiB')
})

test('what stays in files has a line of its own', (t) => {
  const mapped = { weights: 500 * MiB, optimizer: bytes.optimizer }
  t.deepEqual(planTable({ ...plan, mapped, countedFrom: 'config' }), [
    'Memory plan',
    '  weights           13.1 MiB  memory',
    '                   500.0 MiB  mapped file',
    '  adapter            9.3 MiB  memory',
    '  gradients          9.3 MiB  memory',
    '  optimizer state   18.6 MiB  mapped file',
    '  activations        1.5 GiB  memory',
    '  scratch           16.0 MiB  memory',
    '  peak               2.1 GiB',
    '  budget             8.0 GiB  one device',
    '  counted from config.json alone: the weights are not here',
    '  it fits',
    '  about 1.3 s a step',
  ])
})

const device = (firstBlock: number, nBlocks: number, more: Partial<DevicePlan>): DevicePlan => ({
  bytes,
  peakBytes: 2_204_525_824,
  budgetBytes: 2 ** 30,
  firstBlock,
  nBlocks,
  embedding: false,
  head: false,
  ...more,
})

test('several devices have a column each, and say which blocks they hold', (t) => {
  const devices = [
    device(0, 16, { embedding: true, head: true, budgetBytes: 2 ** 34 }),
    device(16, 14, { bytes: { ...bytes, adapter: 0 } }),
  ]
  t.deepEqual(planTable({ ...plan, devices, fits: false, stepSeconds: null }), [
    'Memory plan',
    '                    device 1   device 2',
    '  weights          513.1 MiB  513.1 MiB',
    '  adapter            9.3 MiB          –',
    '  gradients          9.3 MiB    9.3 MiB',
    '  optimizer state   18.6 MiB   18.6 MiB',
    '  activations        1.5 GiB    1.5 GiB',
    '  scratch           16.0 MiB   16.0 MiB',
    '  peak               2.1 GiB    2.1 GiB',
    '  budget            16.0 GiB    1.0 GiB',
    '  device 1: embedding, blocks 1 to 16, head',
    '  device 2: blocks 17 to 30, final norm',
    '  the head is tied to the embedding, and so on device 1: the last block’s output goes back to it',
    '  it does not fit',
  ])
  t.is(shortage({ ...plan, devices, fits: false }), 'device 2 needs 2.1 GiB of memory and has 1.0 GiB')
  const apart = planTable({
    ...plan,
    tiedHead: false,
    devices: [device(0, 0, {}), device(0, 1, { head: true })],
  })
  t.true(apart.includes('  device 1: no block'))
  t.true(apart.includes('  device 2: block 1, final norm, head'))
  t.false(apart.some((line) => line.includes('tied')))
})

test('a host beside a card has a column, and its need a line', (t) => {
  const host = {
    weights: 100 * MiB,
    adapter: 0,
    gradients: 100 * MiB,
    optimizer: 200 * MiB,
    activations: 0,
    scratch: 0,
  }
  const lines = planTable({
    ...plan,
    stepSeconds: null,
    devices: [device(0, 30, { budgetBytes: 2 ** 34 })],
    host,
  })
  t.deepEqual(lines.slice(0, 3), [
    'Memory plan',
    '                        card       host',
    '  weights          513.1 MiB  100.0 MiB',
  ])
  t.deepEqual(lines.slice(-5), [
    '  scratch           16.0 MiB          –',
    '  peak               2.1 GiB  400.0 MiB',
    '  budget            16.0 GiB          –',
    '  beside it the host needs 400.0 MiB',
    '  it fits',
  ])
})

test('a step takes as long as people would say', (t) => {
  const said = (stepSeconds: number): string | undefined => planTable({ ...plan, stepSeconds }).at(-1)
  t.is(said(0.0001), '  under 1 ms a step')
  t.is(said(0.25), '  about 250 ms a step')
  t.is(said(119.94), '  about 119.9 s a step')
  t.is(said(1895), '  about 32 min a step')
  t.is(said(9000), '  about 2.5 h a step')
})

test('the trainable parameters', (t) => {
  t.is(
    trainableLine(plan),
    'Trainable params: 2442240 || all_params: 136957248 || trainable%: 1.7832134010169363',
  )
})
