// The known name that a misspelt one was meant to be.

/** Edits (insert, drop, replace, swap neighbours) from `a` to `b`. Names are short: the table is a row of arrays. */
const editDistance = (a: string, b: string): number => {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)]
  const at = (i: number, j: number): number => rows[i]?.[j] ?? Number.POSITIVE_INFINITY
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    rows.push(row)
    for (let j = 1; j <= b.length; j++) {
      const replaced = at(i - 1, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1)
      const swapped = a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? at(i - 2, j - 2) + 1 : replaced
      row.push(Math.min(replaced, swapped, at(i - 1, j) + 1, at(i, j - 1) + 1))
    }
  }
  return at(a.length, b.length)
}

/** Longer words than any option's name are not worth comparing, and would cost the square of their length. */
const longestName = 80

/**
 * What `name` was meant to be: the nearest of `names` where that is a slip of the fingers, else the first of
 * `main` that holds all words of `name`, else the nearest within a third of the length.
 */
export const nearest = (
  name: string,
  names: readonly string[],
  main: readonly string[],
): string | undefined => {
  if (name.length > longestName) return undefined
  const ranked = [...main, ...names]
    .map((candidate) => ({ candidate, distance: editDistance(name, candidate) }))
    .filter(({ candidate, distance }) => distance < candidate.length)
    .sort((a, b) => a.distance - b.distance)
  const within = (limit: number): string | undefined =>
    ranked[0] !== undefined && ranked[0].distance <= limit ? ranked[0].candidate : undefined
  const words = wordsOf(name)
  const holding = main.find((candidate) => words.every((word) => wordsOf(candidate).includes(word)))
  return (
    within(1 + Math.floor(name.length / 12)) ?? holding ?? within(Math.max(2, Math.floor(name.length / 3)))
  )
}

const wordsOf = (name: string): string[] => name.split(/[._]+/).filter((word) => word !== '')
