// Draws anti-aliased lines, dots and texts onto pixels. Knows nothing of charts and of files.
// Lengths are in pixels, y downwards; a pixel's middle lies half a pixel from its edges.

import { inflateSync } from 'node:zlib'
import { advances, ascent, cells, characters, lineHeight } from './font_data.js'
import type { Box } from './loss_chart.js'

export interface Ink {
  /** Red, green and blue, 0 to 255. */
  colour: [number, number, number]
  opacity: number
}

export interface Raster {
  width: number
  height: number
  /** Three bytes a pixel, row by row. */
  pixels: Uint8Array
}

/** A raster of one colour. */
export const rasterOf = (width: number, height: number, ground: Ink['colour']): Raster => {
  const pixels = new Uint8Array(width * height * 3)
  for (let i = 0; i < pixels.length; i++) pixels[i] = ground[i % 3] ?? 0
  return { width, height, pixels }
}

const blend = ({ pixels, width }: Raster, x: number, y: number, { colour }: Ink, share: number): void => {
  const at = 3 * (y * width + x)
  for (let channel = 0; channel < 3; channel++) {
    const below = pixels[at + channel] ?? 0
    pixels[at + channel] = Math.round(below + ((colour[channel] ?? 0) - below) * share)
  }
}

/** The part of a box that is on the raster, in whole pixels. */
const within = ({ width, height }: Raster, box: Box): Box => ({
  left: Math.max(0, Math.floor(box.left)),
  top: Math.max(0, Math.floor(box.top)),
  right: Math.min(width - 1, Math.ceil(box.right)),
  bottom: Math.min(height - 1, Math.ceil(box.bottom)),
})

/**
 * A line through all points, with round joins and ends. Where it crosses itself it is no darker: for each pixel the
 * nearest stretch counts, and the whole line is put on once.
 */
export const drawLine = (
  raster: Raster,
  points: readonly (readonly [x: number, y: number])[],
  lineWidth: number,
  ink: Ink,
  clip: Box,
): void => {
  const area = within(raster, clip)
  const columns = area.right - area.left + 1
  const covered = new Float32Array(Math.max(0, columns * (area.bottom - area.top + 1)))
  const reach = lineWidth / 2 + 0.5
  for (let i = 1; i < points.length; i++) {
    const [from, to] = [points[i - 1], points[i]]
    if (from !== undefined && to !== undefined) cover(covered, area, from, to, reach)
  }
  for (let i = 0; i < covered.length; i++) {
    const share = covered[i] ?? 0
    if (share === 0) continue
    blend(raster, area.left + (i % columns), area.top + Math.floor(i / columns), ink, share * ink.opacity)
  }
}

/** Notes for each pixel near the stretch how much of it is covered: 1 inside, falling to 0 over one pixel. */
const cover = (
  covered: Float32Array,
  area: Box,
  [x1, y1]: readonly [number, number],
  [x2, y2]: readonly [number, number],
  reach: number,
): void => {
  const columns = area.right - area.left + 1
  const [dx, dy] = [x2 - x1, y2 - y1]
  const squared = dx * dx + dy * dy
  const top = Math.max(area.top, Math.floor(Math.min(y1, y2) - reach))
  const bottom = Math.min(area.bottom, Math.ceil(Math.max(y1, y2) + reach))
  // How far to the side of a slanted stretch a row of pixels can still be reached.
  const side = dy === 0 ? Number.POSITIVE_INFINITY : (reach * Math.sqrt(squared)) / Math.abs(dy) + 1
  for (let y = top; y <= bottom; y++) {
    const atRow = dy === 0 ? x1 : x1 + ((y + 0.5 - y1) / dy) * dx
    const left = Math.max(area.left, Math.floor(Math.max(Math.min(x1, x2) - reach, atRow - side)))
    const right = Math.min(area.right, Math.ceil(Math.min(Math.max(x1, x2) + reach, atRow + side)))
    for (let x = left; x <= right; x++) {
      const [px, py] = [x + 0.5 - x1, y + 0.5 - y1]
      const along = squared === 0 ? 0 : Math.min(1, Math.max(0, (px * dx + py * dy) / squared))
      const distance = Math.hypot(px - along * dx, py - along * dy)
      const share = Math.min(1, reach - distance)
      const at = (y - area.top) * columns + x - area.left
      if (share > (covered[at] ?? 0)) covered[at] = share
    }
  }
}

/** A filled circle. */
export const drawDot = (raster: Raster, x: number, y: number, radius: number, ink: Ink): void => {
  const clip = { left: x - radius - 1, top: y - radius - 1, right: x + radius + 1, bottom: y + radius + 1 }
  const point = [x, y] as const
  drawLine(raster, [point, point], 2 * radius, ink, clip)
}

interface Glyph {
  advance: number
  /** Where its cell begins, in half bytes. */
  start: number
}

let glyphs: { byCharacter: Map<string, Glyph>; levels: Buffer } | undefined

/** Unpacked once, and only where something is written. */
const font = (): NonNullable<typeof glyphs> => {
  if (glyphs !== undefined) return glyphs
  const byCharacter = new Map<string, Glyph>()
  let start = 0
  for (const [i, character] of [...characters].entries()) {
    const advance = advances[i] ?? 0
    byCharacter.set(character, { advance, start })
    start += (advance + 2) * lineHeight
  }
  glyphs = { byCharacter, levels: inflateSync(Buffer.from(cells, 'base64')) }
  return glyphs
}

/** A letter that the font lacks stands as a question mark, an accent of its own as part of its letter. */
const lettersOf = (text: string): Glyph[] => {
  const { byCharacter } = font()
  return [...text.normalize('NFC')].flatMap((character) => {
    const glyph = byCharacter.get(character) ?? byCharacter.get('?')
    return glyph === undefined ? [] : [glyph]
  })
}

/** A line of text: `x` is its start, middle or end, `y` its baseline. */
export const drawText = (
  raster: Raster,
  text: string,
  [x, y]: readonly [x: number, y: number],
  anchor: 'start' | 'middle' | 'end',
  ink: Ink,
): void => {
  const letters = lettersOf(text)
  const length = letters.reduce((sum, { advance }) => sum + advance, 0)
  const share = { start: 0, middle: 0.5, end: 1 }[anchor]
  // Whole pixels keep the letters as sharp as they were drawn.
  let pen = Math.round(x - length * share)
  const top = Math.round(y) - ascent
  for (const { advance, start } of letters) {
    drawGlyph(raster, start, advance + 2, [pen - 1, top], ink)
    pen += advance
  }
}

const drawGlyph = (
  raster: Raster,
  start: number,
  width: number,
  [left, top]: readonly [number, number],
  ink: Ink,
): void => {
  const { levels } = font()
  for (let i = 0; i < width * lineHeight; i++) {
    const packed = levels[(start + i) >> 1] ?? 0
    const level = (start + i) % 2 === 0 ? packed >> 4 : packed & 15
    const [x, y] = [left + (i % width), top + Math.floor(i / width)]
    if (level === 0 || x < 0 || y < 0 || x >= raster.width || y >= raster.height) continue
    blend(raster, x, y, ink, (level / 15) * ink.opacity)
  }
}
