// Numbers with the word for what they count.

/** `1 file`, `2 files`; `1 old entry`, `2 old entries` where the plural is given. */
export const counted = (n: number, one: string, many = `${one}s`): string => `${n} ${n === 1 ? one : many}`
