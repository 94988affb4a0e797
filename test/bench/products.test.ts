// What the benchmarks count as FLOPs of products, and whom they put beside ours; no figure of this machine.

import test from 'ava'
import { shares, stepFlops, total } from '../../bench/flops.js'
import { type Name, type Rounds, shapeLines } from '../../bench/gemm_peers.js'
import { smollm2Decoder } from '../../bench/places.js'
import { answering } from '../../bench/process.js'
import { LoraTrainError } from '../../ts/native/errors.js'

test('FLOPs are those of the products that are executed', (t) => {
  const step = {
    lengths: [[512, 512, 512, 512]],
    supervisedTokens: 2044,
    rank: 16,
    recomputedBlocks: 0,
    keepsAttention: false,
  }
  const kept = stepFlops(smollm2Decoder, step)
  // 106,168,320 weights in linears and 4,884,480 parameters in adapters; the lowest q, k and v need no dx.
  t.is(kept.weights, 2 * 2048 * (2 * 106168320 - 576 * (576 + 192 + 192)))
  t.is(kept.adapters, 2 * 2048 * (3 * 4884480 - 16 * 3 * 576))
  t.is(kept.head, 4 * 49152 * 576 * 2044)
  t.is(kept.recomputed, 0)
  // 16 tiles of 32 queries meet 32, 64, … 512 keys; four sequences and three kv heads are enough for five products.
  const scores = 30 * 9 * 4 * 32 * 32 * ((16 * 17) / 2)
  t.is(kept.attention, 2 * 64 * 7 * scores)
  const again = stepFlops(smollm2Decoder, { ...step, recomputedBlocks: 30 })
  // But for down, with the B of its adapter.
  const left = 106168320 + 4884480 - 30 * 576 * (1536 + 16)
  t.is(again.recomputed, 2 * 2048 * left + 2 * 64 * 2 * scores)
  t.is(total(again) - again.recomputed, total(kept))
  const attended = stepFlops(smollm2Decoder, { ...step, recomputedBlocks: 30, keepsAttention: true })
  t.is(attended.recomputed, 2 * 2048 * left)
  // One sequence alone is cut into tiles, which compute scores twice in backward.
  const long = stepFlops(smollm2Decoder, { ...step, lengths: [[2048]] })
  t.is(long.attention, 2 * 64 * 9 * 30 * 9 * 32 * 32 * ((64 * 65) / 2))
  // Of a tile that is not full, scores are computed for all of its 32 queries.
  const short = stepFlops(
    { ...smollm2Decoder, blocks: 1, heads: 4, kvHeads: 4 },
    { ...step, lengths: [[10]] },
  )
  t.is(short.attention, 4 * 2 * 64 * 10 * (3 * 32 + 4 * 10))
  t.regex(shares(kept), /^weights \d+ %, recomputed 0 %, adapters \d+ %, head \d+ %, attention \d+ %$/)
})

test('ours stands beside candle and PyTorch where they ran, and NF4 beside bf16', (t) => {
  const rounds = (...best: number[]) => best.map((best_s) => ({ best_s, median_s: 1.5 * best_s }))
  const measured: [Name, ReturnType<typeof rounds>][] = [
    ['ours-f32', rounds(2, 1)],
    ['candle-f32', rounds(2, 2)],
    ['ours-bf16', rounds(0.5)],
    ['ours-nf4', rounds(1)],
    ['ours-bf16-dx', rounds(1)],
    ['ours-nf4-dx', rounds(1)],
  ]
  const shape = { rows: 1000, outputs: 1000, inputs: 500 }
  const of = (names: Rounds) =>
    shapeLines(shape, names).map((line) => line.kind === 'figure' && [line.case, line.ratio, line.limitName])
  t.deepEqual(of(new Map(measured)), [
    ['1000x1000x500 f32', 2, 'candle'],
    ['1000x1000x500 nf4', 0.5, 'ours in bf16'],
    ['1000x1000x500 nf4 dx', 1, 'ours in bf16'],
  ])
  const torch: [Name, ReturnType<typeof rounds>][] = [
    ['torch-f32', rounds(4)],
    ['torch-bf16', rounds(0.25)],
  ]
  t.deepEqual(of(new Map([...measured, ...torch])).slice(1, 3), [
    ['1000x1000x500 f32', 4, 'PyTorch'],
    ['1000x1000x500 bf16', 0.5, 'PyTorch'],
  ])
  t.like(shapeLines(shape, new Map(measured))[0], { unit: 'GFLOP/s', noisy: true })
})

test('a program answers line by line, and its last words are said where it is gone', async (t) => {
  const echo = answering(process.execPath, ['-e', 'process.stdin.pipe(process.stdout)'])
  t.is(await echo.ask('one'), 'one')
  t.is(await echo.ask('two'), 'two')
  echo.end()
  const gone = answering(process.execPath, ['-e', 'console.error("no torch here"); process.exitCode = 2'])
  await t.throwsAsync(gone.ask('one'), { instanceOf: LoraTrainError, message: /no torch here/ })
  const missing = answering('there-is-no-such-program', [])
  await t.throwsAsync(missing.ask('one'), { instanceOf: LoraTrainError, message: /ENOENT/ })
})
