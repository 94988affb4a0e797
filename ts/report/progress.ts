// The progress bar: one line in tqdm's form, drawn over itself. Only for a terminal; elsewhere there is none.

/** Where text goes: `process.stderr` is one. */
export interface Output {
  readonly isTTY?: boolean
  readonly columns?: number
  write(text: string): unknown
}

/** How far something is. */
export interface BarState {
  /** Stands before the bar; empty for the training itself, as with the Trainer. */
  label: string
  done: number
  total: number
  /** `26/100`, or the same in bytes. */
  position: string
  elapsedMs: number
  /** null: not known yet. */
  leftMs: number | null
  /** After the times: `44.71s/it`, `loss 0.6569`. */
  notes: string[]
}

/** A line that is drawn over itself. */
export interface Bar {
  draw(state: BarState): void
  /** Lets `print` write whole lines above it. */
  above(print: () => void): void
  /** Takes the line away; the next one is drawn at once. */
  clear(): void
  /** Leaves the line standing and goes below it. */
  finish(): void
}

/** Drawing more often than this costs time that nobody sees. */
const redrawMs = 100

/** A bar on `output`; one that draws nothing where that is not a terminal. */
export const createBar = (output: Output): Bar => {
  if (output.isTTY !== true) {
    return {
      draw: () => undefined,
      above: (print) => print(),
      clear: () => undefined,
      finish: () => undefined,
    }
  }
  let line = ''
  let drawnAt = Number.NEGATIVE_INFINITY
  return {
    draw(state) {
      const now = performance.now()
      if (now - drawnAt < redrawMs && state.done < state.total) return
      drawnAt = now
      const next = barLine(state, output.columns ?? 80)
      // A shorter line must cover the longer one that it replaces.
      output.write(`\r${next.padEnd(line.length)}`)
      line = next
    },
    above(print) {
      if (line !== '') output.write(`\r${' '.repeat(line.length)}\r`)
      print()
      if (line !== '') output.write(line)
    },
    clear() {
      if (line !== '') output.write(`\r${' '.repeat(line.length)}\r`)
      line = ''
      drawnAt = Number.NEGATIVE_INFINITY
    },
    finish() {
      if (line !== '') output.write('\n')
      line = ''
      drawnAt = Number.NEGATIVE_INFINITY
    },
  }
}

const blocksWidth = 10

/** ` 26%|██▌       | 26/100 [01:23<04:02, 3.28s/it, loss 1.2345]`, cut to the terminal's width. */
export const barLine = (state: BarState, columns: number): string => {
  const { label, done, total, position, elapsedMs, leftMs, notes } = state
  const share = total > 0 ? Math.min(1, done / total) : 0
  const percent = `${Math.floor(share * 100)}%`.padStart(4)
  const times = `${formatTime(elapsedMs)}<${leftMs === null ? '?' : formatTime(leftMs)}`
  const line = `${label}${percent}|${blocks(share)}| ${position} [${[times, ...notes].join(', ')}]`
  // A line as wide as the terminal would wrap, and could not be drawn over.
  return line.slice(0, Math.max(0, columns - 1))
}

const eighths = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉']

const blocks = (share: number): string => {
  const filled = Math.floor(share * blocksWidth * 8)
  return ('█'.repeat(Math.floor(filled / 8)) + (eighths[filled % 8] ?? '')).padEnd(blocksWidth)
}

/** `04:02`, `50:03:11`: as tqdm prints times. */
export const formatTime = (ms: number): string => {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  const two = (value: number): string => String(value).padStart(2, '0')
  const hours = Math.floor(seconds / 3600)
  const rest = `${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`
  return hours > 0 ? `${hours}:${rest}` : rest
}

/** `44.71s/it` for slow steps, `3.20it/s` for fast ones, as tqdm does. */
export const formatRate = (steps: number, elapsedMs: number): string => {
  const seconds = elapsedMs / 1000
  if (steps <= 0 || seconds <= 0) return '?it/s'
  return seconds >= steps ? `${(seconds / steps).toFixed(2)}s/it` : `${(steps / seconds).toFixed(2)}it/s`
}
