// FLOPs of all matrix products that a LoRA step of a Llama executes, by what they are for. Measures nothing.
//
//   weights      2·in·out a token forward and as much for dx; the lowest q, k and v have no dx
//   recomputed   forward of a block again, its adapters with it, but for what gives its output: down; attention unless
//                it was kept
//   adapters     2·r·(in + out) forward, twice that backward: dh, dA, dB and dx's term
//   head         2·V·C for logits and for dx, of supervised tokens only
//   attention    two products forward, five or seven backward, over the tiles that are computed (crates/kernels/attention)
//
// Norms, activations, softmax and the optimizer are no products, and are left out.

/** Sizes of a decoder with gated MLPs and grouped heads. */
export interface Decoder {
  blocks: number
  hidden: number
  intermediate: number
  heads: number
  kvHeads: number
  headDim: number
  vocab: number
}

/** One optimizer step with adapters on all linears, nothing else trained. */
export interface LoraStep {
  /** Of its sequences, micro-batch by micro-batch. */
  lengths: readonly (readonly number[])[]
  supervisedTokens: number
  rank: number
  recomputedBlocks: number
  /** Recomputed blocks keep what attention made. */
  keepsAttention: boolean
}

export interface StepFlops {
  weights: number
  recomputed: number
  adapters: number
  head: number
  attention: number
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)

/** Queries of a tile of attention, and the fewest tasks with which backward makes all gradients in one pass. */
const tileQueries = 32
const wholeTasksMin = 4

/**
 * FLOPs of one head's tiles of a sequence, of so many products. A tile of queries meets all keys up to its own last
 * query. Scores are computed for whole tiles of queries, what is summed over queries or keys for those that are there.
 */
const tiles = (length: number, headDim: number, scoreProducts: number, sumProducts: number): number => {
  let flops = 0
  for (let query = 0; query < length; query += tileQueries) {
    const end = Math.min(query + tileQueries, length)
    flops += 2 * headDim * end * (scoreProducts * tileQueries + sumProducts * (end - query))
  }
  return flops
}

/** Of all query heads of a block, for one micro-batch: forward, and backward. */
const attention = (
  lengths: readonly number[],
  { heads, kvHeads, headDim }: Decoder,
): { forward: number; backward: number } => {
  const squares = lengths.map((length) => length ** 2)
  const whole = Math.floor((sum(squares) * kvHeads) / Math.max(1, ...squares)) >= wholeTasksMin
  const of = (scores: number, sums: number): number =>
    heads * sum(lengths.map((length) => tiles(length, headDim, scores, sums)))
  return { forward: of(1, 1), backward: whole ? of(2, 3) : of(4, 3) }
}

export const stepFlops = (decoder: Decoder, step: LoraStep): StepFlops => {
  const { blocks, hidden, intermediate, vocab } = decoder
  const { rank, recomputedBlocks, keepsAttention } = step
  const tokens = sum(step.lengths.flat())
  const [width, kvWidth] = [decoder.heads * decoder.headDim, decoder.kvHeads * decoder.headDim]
  const qkv = [
    { inputs: hidden, outputs: width },
    { inputs: hidden, outputs: kvWidth },
    { inputs: hidden, outputs: kvWidth },
  ]
  const linears = [
    ...qkv,
    { inputs: width, outputs: hidden },
    { inputs: hidden, outputs: intermediate },
    { inputs: hidden, outputs: intermediate },
    { inputs: intermediate, outputs: hidden },
  ]
  const weights = 2 * tokens * sum(linears.map(({ inputs, outputs }) => inputs * outputs))
  const adapters = 2 * tokens * rank * sum(linears.map(({ inputs, outputs }) => inputs + outputs))
  const lowest = 2 * tokens * sum(qkv.map(({ inputs, outputs }) => inputs * outputs))
  const lowestAdapters = 2 * tokens * rank * sum(qkv.map(({ inputs }) => inputs))
  const down = 2 * tokens * hidden * (intermediate + rank)
  const passes = step.lengths.map((lengths) => attention(lengths, decoder))
  const forward = sum(passes.map((pass) => pass.forward))
  return {
    weights: 2 * blocks * weights - lowest,
    recomputed: recomputedBlocks * (weights + adapters + (keepsAttention ? 0 : forward) - down),
    adapters: 3 * blocks * adapters - lowestAdapters,
    head: 2 * 2 * vocab * hidden * step.supervisedTokens,
    attention: blocks * sum(passes.map((pass) => pass.forward + pass.backward)),
  }
}

export const total = (flops: StepFlops): number => sum(Object.values(flops))

/** `weights 60 %, recomputed 0 %, …` */
export const shares = (flops: StepFlops): string =>
  Object.entries(flops)
    .map(([name, part]) => `${name} ${((100 * part) / total(flops)).toFixed(0)} %`)
    .join(', ')
