// The order of rows in an epoch: a permutation that follows from (seed, epoch, count) alone, on every platform.
// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014) feeds a Fisher–Yates
// shuffle. Its state is a counter, so the order of epoch 7 needs nothing of epochs 0 to 6.

const mask = (1n << 64n) - 1n
/** SplitMix64's increment: 2⁶⁴ / φ, odd. */
const golden = 0x9e3779b97f4a7c15n

/** SplitMix64's output function of a 64-bit state. */
const mix = (state: bigint): bigint => {
  let z = state
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & mask
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & mask
  return z ^ (z >> 31n)
}

/** The 64-bit numbers of SplitMix64 after `seed`. */
export function* splitMix64(seed: bigint): Generator<bigint, never> {
  for (let state = seed & mask; ; ) {
    state = (state + golden) & mask
    yield mix(state)
  }
}

/**
 * `items` in the order of epoch `epoch` (from 0). The epoch's stream starts at
 * `mix(seed) + epoch · golden`, mixed once more, so that neighbouring seeds and epochs have nothing in common.
 *
 * @example
 * shuffled(Uint32Array.of(0, 1, 2, 3), 42, 0)
 */
export const shuffled = (items: Uint32Array, seed: number, epoch: number): Uint32Array => {
  const order = items.slice()
  const stream = splitMix64(mix((mix(BigInt(seed)) + BigInt(epoch) * golden) & mask))
  for (let last = order.length - 1; last > 0; last--) {
    // The high half of the product is a number below last + 1; its bias is under 2⁻³² for any file of rows.
    const pick = Number((stream.next().value * BigInt(last + 1)) >> 64n)
    const kept = order[last] ?? 0
    order[last] = order[pick] ?? 0
    order[pick] = kept
  }
  return order
}
