// The benchmarks' own arithmetic and words; no figure of this machine. What they measure is run by `npm run bench`.

import { spawnSync } from 'node:child_process'
import test from 'ava'
import type { TrainingResult } from '../../bench/child/training.js'
import { type Curve, curveLines, curvesSvg, distance } from '../../bench/curves.js'
import { figure, repeated } from '../../bench/figure.js'
import { stepFlops, total } from '../../bench/flops.js'
import { lineOf } from '../../bench/gemm.js'
import { largestDifference, requestOf } from '../../bench/interop.js'
import { busyShare, loadWarning } from '../../bench/load.js'
import { isaLine } from '../../bench/machine.js'
import { besideBitsandbytes, codecLine } from '../../bench/nf4.js'
import { ratioLine, updateLines } from '../../bench/optimizer.js'
import { comparison, startLines } from '../../bench/peer.js'
import { root, smollm2Decoder } from '../../bench/places.js'
import { jsonLines } from '../../bench/process.js'
import { fitted, type Point, predictedSeconds, threadsLine } from '../../bench/scaling.js'
import { type SyntheticStep, syntheticLines } from '../../bench/synthetic.js'
import { inShort, quantity, table } from '../../bench/table.js'
import { tokenizeLines } from '../../bench/tokenize.js'
import { memoryFigure, productsFigure, speedFigure, tokensPerSecond } from '../../bench/training_lines.js'
import { readWords } from '../../bench/words.js'
import type { SessionInfo } from '../../ts/native/contract.js'
import { LoraTrainError } from '../../ts/native/errors.js'

const known = [{ name: 'gemm' }, { name: 'train' }, { name: 'memory' }]

/** A training of 100 tokens a step: a slow first step, then 1 s and 2 s. */
const result: TrainingResult = {
  info: { plan: { peakBytes: 1000, recomputedBlocks: 0, keepsAttention: false } } as SessionInfo,
  peakRssBytes: 1200,
  steps: [
    { loss: 1, ms: 9000, tokens: 100, supervisedTokens: 50, lengths: [[60, 40]] },
    { loss: 1, ms: 1000, tokens: 100, supervisedTokens: 50, lengths: [[60, 40]] },
    { loss: 1, ms: 2000, tokens: 100, supervisedTokens: 50, lengths: [[60, 40]] },
  ],
}

test('no name means every benchmark; names keep the order in which they run', (t) => {
  t.deepEqual(readWords([], known), { benchmarks: known, json: false })
  const { benchmarks, json } = readWords(['memory', '--json', 'gemm'], known)
  t.deepEqual([benchmarks.map(({ name }) => name), json], [['gemm', 'memory'], true])
})

test('what takes half an hour runs only where it is named', (t) => {
  const long = { name: 'curves', onlyNamed: true } as const
  t.deepEqual(readWords([], [...known, long]).benchmarks, known)
  t.deepEqual(readWords(['curves'], [...known, long]).benchmarks, [long])
})

test('an unknown name or option is refused, and the benchmarks are named', (t) => {
  for (const [word, message] of [
    ['nonsense', 'there is no benchmark nonsense'],
    ['--jsno', 'there is no option --jsno'],
  ] as const) {
    const error = t.throws(() => readWords(['gemm', word], known), { instanceOf: LoraTrainError })
    t.is(error?.code, 'USAGE')
    t.is(error?.message, message)
    t.regex(error?.hint ?? '', /gemm, train, memory/)
  }
})

test('`npm run bench -- nonsense` names the benchmarks and measures nothing', (t) => {
  const words = ['run', '--silent', 'bench', '--', 'nonsense']
  const { status, stdout, stderr } = spawnSync('npm', words, { cwd: root, encoding: 'utf8' })
  t.is(status, 2)
  t.is(stdout, '')
  t.regex(stderr, /no benchmark nonsense/)
  t.regex(stderr, /gemm, nf4, optimizer, train, memory, scaling, synthetic, peer, tokenize, interop, curves/)
})

test('of repeated times the best counts, and the median tells how noisy the machine is', (t) => {
  t.deepEqual(repeated([3, 2, 4]), { best: 2, spread: 0.5 })
  t.deepEqual(repeated([3]), { best: 3, spread: null })
  t.throws(() => repeated([]), { instanceOf: RangeError })
  const given = { bench: 'b', case: 'c', value: 1, unit: 's', limit: 4, limitName: 'l' } as const
  t.is(figure(given).ratio, 0.25)
  t.deepEqual(
    [0.05, 0.1, 0.11].map((spread) => figure({ ...given, spread }).noisy),
    [false, false, true],
  )
})

test('a table is aligned, names what was left out, and says when the machine is noisy', (t) => {
  const shared = { bench: 'gemm', unit: 'GFLOP/s', limit: 200, limitName: 'FMA peak' } as const
  const lines = [
    figure({ ...shared, case: 'square', value: 150, spread: 0.02 }),
    figure({ ...shared, case: 'thin/8', value: 9.5, spread: 0.3 }),
    { kind: 'skipped', bench: 'gemm', case: 'head', why: '40 s' },
    { kind: 'note', bench: 'gemm', text: 'a note' },
  ] as const
  t.deepEqual(table(lines).slice(0, 5), [
    'case        measured                 limit  ratio  spread',
    'square   150 GFLOP/s  200 GFLOP/s FMA peak   0.75     2 %',
    'thin/8  9.50 GFLOP/s  200 GFLOP/s FMA peak   0.05    30 %  noisy',
    'left out: head (40 s)',
    'a note',
  ])
  t.regex(table(lines)[5] ?? '', /^NOISY MACHINE: in 1 of 2 figures/)
  t.deepEqual(table(lines.slice(2)), ['left out: head (40 s)', 'a note'])
  t.false(table(lines.slice(0, 1)).some((line) => line.includes('NOISY')))
})

test('quantities have three digits that count', (t) => {
  t.deepEqual(
    [quantity(1234.5, 'tokens/s'), quantity(12.34, 's'), quantity(0.5, 's'), quantity(3 * 2 ** 29, 'bytes')],
    ['1,235 tokens/s', '12.3 s', '0.50 s', '1.5 GiB'],
  )
})

test('of gemm_bench both kinds of lines are read', (t) => {
  const text = [
    '2 threads, copy 10 GB/s',
    '{"bench":"gemm","case":"square/2048","isa":"avx2","precision":"F32","threads":2,"gflops":90,"peak_gflops":100,"spread":0.01}',
    '{"bench":"gemm","case":"head/512","isa":"portable","precision":"Bf16","skipped":"40 s at the peak"}',
  ].join('\n')
  const [ran, left] = jsonLines<Parameters<typeof lineOf>[0]>(text).map(lineOf)
  t.like(ran, {
    kind: 'figure',
    case: 'square/2048 f32 avx2',
    value: 90,
    limit: 100,
    ratio: 0.9,
    noisy: false,
  })
  t.like(left, { kind: 'skipped', case: 'head/512 bf16 portable', why: '40 s at the peak' })
  t.regex(
    isaLine(['portable', 'avx2']),
    /ran: portable, avx2; not on this CPU: avx512, avx512bf16, amx, neon$/,
  )
})

test('speed is that of the warm steps, beside all products at the peak', (t) => {
  t.deepEqual(tokensPerSecond(result), { best: 100, spread: 1 })
  const step = {
    lengths: [[60, 40]],
    supervisedTokens: 50,
    rank: 4,
    recomputedBlocks: 0,
    keepsAttention: false,
  }
  const flops = total(stepFlops(smollm2Decoder, step))
  const executed = { decoder: smollm2Decoder, rank: 4, peakGflops: (2 * flops) / 1e9 }
  const speed = speedFigure('train', 'case', result, executed)
  t.like(speed, { case: 'case speed', value: 100, noisy: true })
  t.true(Math.abs(speed.limit - 200) < 1e-9)
  const products = productsFigure('train', 'case', result, executed)
  t.true(Math.abs(products.ratio - 0.5) < 1e-9)
})

test('a peak that is over 10 % from the plan is a fault, in either direction', (t) => {
  const faultAt = (peakRssBytes: number): string | null =>
    memoryFigure('memory', 'case', { ...result, peakRssBytes }).fault
  t.is(faultAt(1200), 'more than planned by 20 %')
  t.is(faultAt(850), 'less than planned by 15 %')
  t.is(faultAt(1090), null)
  t.is(faultAt(910), null)
})

test('the peer’s figures stand as the limit of ours', (t) => {
  const step = { tokens: 50, peak_rss_mib: 1, load_s: 5 }
  const theirs = [10, 1, 1].map((seconds) => ({ ...step, seconds }))
  const targets = { speed: 2, memory: 0.2 }
  const [speed, memory] = comparison('case', result, theirs, targets)
  t.like(speed, { value: 100, limit: 50, ratio: 2, noisy: true, fault: null, limitName: 'theirs, target ≥2' })
  t.like(memory, { value: 1200, limit: 2 ** 20, fault: null, limitName: 'theirs, target ≤0.2' })
  const harder = comparison('case', result, theirs, { speed: 2.1, memory: 0.001 })
  for (const line of harder) t.like(line, { fault: 'misses the target' })
  t.like(comparison('case', result, [], targets)[0], { kind: 'skipped' })
  const [part, cached] = startLines('nf4', 0.5, theirs)
  t.like(part, { value: 0.5, limit: 5, ratio: 0.1, fault: null, limitName: 'theirs, target ≤0.1' })
  t.like(cached, { value: 0.5, limit: 0.5, fault: null })
  for (const line of startLines('nf4', 0.51, theirs)) t.like(line, { fault: 'misses the target' })
  t.is(startLines('bf16', 0.5, theirs).length, 1)
})

test('a figure in a line says what the table says', (t) => {
  const given = { bench: 'peer', case: 'a speed', value: 100, unit: 'tokens/s', limit: 50 } as const
  t.is(
    inShort(figure({ ...given, limitName: 'theirs' })),
    'peer: a speed, 100 tokens/s, 50.0 tokens/s theirs, 2.00',
  )
})

test('a curve is held against f32 on its own base, smoothed', (t) => {
  const flat = (base: Curve['base'], mode: Curve['mode'], loss: number): Curve => ({
    base,
    mode,
    losses: Array(20).fill(loss),
  })
  const curves = [flat('plain', 'f32', 2), flat('nf4', 'f32', 3), flat('nf4', 'bf16', 3.02)]
  t.true(Math.abs(distance(flat('nf4', 'bf16', 3.02), flat('nf4', 'f32', 3)) - 0.02) < 1e-9)
  const peaked = flat('nf4', 'bf16', 3)
  peaked.losses[10] = 4
  // A weight of 1 − 1/2 over 20 steps: half of the peak is left, and little of the start.
  t.true(Math.abs(distance(peaked, flat('nf4', 'f32', 3)) - 0.5) < 1e-3)
  const figures = (lines: readonly Curve[]) => curveLines(lines).filter((line) => line.kind === 'figure')
  t.deepEqual(
    figures(curves).map((line) => [line.case, line.fault]),
    [
      ['plain f32', null],
      ['nf4 f32', null],
      ['nf4 bf16', null],
    ],
  )
  t.is(figures([flat('nf4', 'f32', 3), peaked])[1]?.fault, 'too far')
  t.throws(() => distance(peaked, { ...peaked, losses: [1] }), { instanceOf: RangeError })
  const picture = curvesSvg([...curves, peaked])
  t.notRegex(picture, /NaN|Infinity/)
  for (const text of ['plain f32', 'nf4 bf16', 'step']) t.true(picture.includes(`>${text}<`), text)
})

test('the cost model goes through its three points and predicts the others', (t) => {
  const point = (length: number, rank: number): Point => ({
    length,
    rank,
    secondsPerToken: 10 + 2 * length + 3 * rank,
  })
  const model = fitted(point(4, 16), point(64, 16), point(32, 256))
  t.deepEqual(Object.values(model).map(Math.round), [10, 2, 3])
  for (const other of [point(4, 16), point(64, 16), point(16, 16), point(32, 4)]) {
    t.true(Math.abs(predictedSeconds(model, other) - other.secondsPerToken) < 1e-9)
  }
  for (const wrong of [
    [point(4, 16), point(4, 16), point(4, 8)],
    [point(4, 16), point(8, 8), point(4, 8)],
    [point(4, 16), point(8, 16), point(16, 16)],
  ] as const) {
    t.throws(() => fitted(...wrong), { instanceOf: RangeError })
  }
})

test('two threads are to be 1.8 times one', (t) => {
  const faster = (ratio: number): TrainingResult => ({
    ...result,
    steps: result.steps.map((step) => ({ ...step, ms: step.ms / ratio })),
  })
  t.like(threadsLine(result, faster(2)), { value: 2, unit: '×', limit: 1.8, fault: null })
  t.like(threadsLine(result, faster(1.75)), { fault: 'misses the target' })
})

test('a step of a large model may need 600 MiB beside weights and training', (t) => {
  const mib = 2 ** 20
  const step: SyntheticStep = {
    blocks: 32,
    isa: 'avx2',
    load_s: 10,
    step_s: 20,
    weight_bytes: 3000 * mib,
    trained_bytes: 600 * mib,
    load_peak_rss_bytes: 3800 * mib,
    peak_rss_bytes: 4200 * mib,
    planned_peak_bytes: 4200 * mib,
  }
  t.like(syntheticLines(step)[0], { ratio: 1, fault: null })
  t.like(syntheticLines({ ...step, peak_rss_bytes: 4201 * mib })[0], { fault: 'over the limit' })
  t.regex(String((syntheticLines(step)[2] as { text: string }).text), /beside them 600 MiB/)
})

test('tokenising stands beside as many times one thread', (t) => {
  const one = { rows: 10, tokens: 100, seconds: [2, 2] }
  const [rows, tokens] = tokenizeLines({ ...one, seconds: [1, 1] }, one, 2)
  t.like(rows, { value: 10, unit: 'rows/s', limit: 10, ratio: 1 })
  t.like(tokens, { value: 100, unit: 'tokens/s', limit: 100, spread: 0 })
})

test('a steady neighbour is named, which no spread shows', (t) => {
  const cpu = (idle: number, user: number) => ({
    model: '',
    speed: 0,
    times: { idle, user, nice: 0, sys: 0, irq: 0 },
  })
  t.is(busyShare([cpu(100, 10), cpu(50, 60)], [cpu(175, 35), cpu(125, 85)]), 0.25)
  t.is(busyShare([cpu(1, 1)], [cpu(1, 1)]), 0)
  t.deepEqual(loadWarning([0.01, 0.05]), [])
  t.regex(loadWarning([0.01, 0.6])[0] ?? '', /^NOISY MACHINE: other programs take 60 %/)
})

test('optimizers stand beside the bytes they move, and 8 bits beside f32', (t) => {
  const update = (name: string, rate: number) =>
    ({
      case: name,
      isa: 'avx2',
      mparams_per_s: rate,
      limit_mparams_per_s: 1000,
      triad_gb_per_s: 22.4,
      bytes: 28,
      spread: 0,
    }) as const
  const [plain, eight] = [update('adamw', 600), update('adamw8bit', 900)]
  const [same, triad] = updateLines(plain)
  t.like(same, { case: 'adamw avx2', ratio: 0.6, limitName: '28 bytes each' })
  t.like(triad, { case: 'adamw avx2', limit: 800, ratio: 0.75, limitName: '28 bytes of triad' })
  t.deepEqual(
    ratioLine([plain, eight]).map((line) => 'text' in line && line.text),
    ['8-bit AdamW: 1.50 × the parameters per second of f32'],
  )
  t.deepEqual(ratioLine([plain]), [])
})

test('a codec stands beside its limit, and beside bitsandbytes on all threads', (t) => {
  const codec = (threads: number, value: number) =>
    ({
      case: 'unpack to bf16, plain',
      isa: 'avx2',
      threads,
      value,
      unit: 'GB/s',
      limit: 10,
      limit_name: 'memcpy',
      spread: 0,
    }) as const
  const [all, one] = [codec(2, 15), codec(1, 8)]
  t.like(codecLine(one), { case: 'unpack to bf16, plain, 1 thread avx2', ratio: 0.8, limitName: 'memcpy' })
  const theirs = [
    { case: 'unpack to bf16, plain', value: 3, unit: 'GB/s' },
    { case: 'unpack to f32, plain', value: 5, unit: 'GB/s' },
  ] as const
  const lines = besideBitsandbytes([all, one], theirs)
  t.is(lines.length, 1)
  t.like(lines[0], { case: 'unpack to bf16, plain, 2 threads avx2', ratio: 5, limitName: 'bitsandbytes' })
})

test('a request asks for the next token of each place first, and differences are counted over all of it', (t) => {
  const { rows, tokens } = requestOf([[5, 6, 7]], 10, 3)
  t.deepEqual(rows, [[5, 6, 7]])
  t.deepEqual(
    tokens[0]?.map((place) => [place[0], place.length]),
    [
      [6, 3],
      [7, 3],
      [0, 3],
    ],
  )
  t.true(tokens.flat(2).every((token) => token >= 0 && token < 10))
  t.is(largestDifference([[[-1, -2]]], [[[-1, -2.5]]]), 0.5)
  t.throws(() => largestDifference([[[-1]]], [[[-1, -2]]]), { instanceOf: RangeError })
  t.throws(() => largestDifference([], []), { instanceOf: RangeError })
  t.is(quantity(2.04e-6, 'nats'), '2.0e-6 nats')
  t.is(quantity(21, 'scalars'), '21 scalars')
})
