// Sizes in bytes, as people write and read them.

const powers: Record<string, number> = { '': 0, K: 1, M: 2, G: 3, T: 4 }

/** Bytes of `24GiB` (powers of 1024), `24GB` (powers of 1000), `24G` (as GiB) or a plain number. */
export const parseBytes = (text: string): number => {
  const found = /^\s*(\d+(?:\.\d+)?)\s*(?:([KMGT])(i)?)?(B)?\s*$/i.exec(text)
  if (found === null) throw new TypeError(`not a size: ${text}`)
  const [, number, unit = '', binary, b] = found
  const base = binary !== undefined || b === undefined ? 1024 : 1000
  return Math.round(Number(number) * base ** (powers[unit.toUpperCase()] ?? 0))
}

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']

/** `1.5 GiB`: three digits or fewer before the point, one after it. */
export const formatBytes = (bytes: number): string => {
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10))
  return `${(bytes / 1024 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`
}
