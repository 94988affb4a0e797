// Seeded random numbers for the generated texts and weights: the same on every platform. Never Math.random.
//
// sfc32 (Chris Doty-Humphrey, PractRand): 32-bit integer operations only.

export interface Random {
  /** An integer in [0, n). */
  below(n: number): number
  /** True in `numerator` of `denominator` cases. */
  chance(numerator: number, denominator: number): boolean
  pick<T>(items: readonly T[]): T
  /** Shuffles in place (Fisher-Yates) and returns its argument. */
  shuffle<T>(items: T[]): T[]
  /** Near-normal, mean 0, standard deviation 1: the sum of twelve uniform numbers, less 6 (no Math.log, no Math.cos). */
  normal(): number
}

export function seededRandom(seed: number): Random {
  let [a, b, c, counter] = [seed | 0, 0x9e3779b9 | 0, 0x243f6a88 | 0, 1]
  const next = (): number => {
    const sum = (((a + b) | 0) + counter) | 0
    counter = (counter + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = ((c << 21) | (c >>> 11)) + sum
    c |= 0
    return sum >>> 0
  }
  for (let i = 0; i < 15; i++) next()

  const below = (n: number): number => Math.floor((next() / 2 ** 32) * n)
  return {
    below,
    chance: (numerator, denominator) => below(denominator) < numerator,
    pick: (items) => {
      const item = items[below(items.length)]
      if (item === undefined) throw new RangeError('pick from an empty list')
      return item
    },
    shuffle: (items) => {
      for (let i = items.length - 1; i > 0; i--) {
        const j = below(i + 1)
        const [x, y] = [items[i], items[j]]
        if (x !== undefined && y !== undefined) [items[i], items[j]] = [y, x]
      }
      return items
    },
    normal: () => {
      let sum = -6
      for (let i = 0; i < 12; i++) sum += next() / 2 ** 32
      return sum
    },
  }
}
