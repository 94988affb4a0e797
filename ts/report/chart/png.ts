// A chart as a PNG file: drawn by `raster.ts` on white ground, two pixels for each of the screen, and packed by zlib.

import { deflateSync } from 'node:zlib'
import type { Box, Chart, Shape } from './loss_chart.js'
import { ground, palette } from './palette.js'
import { drawDot, drawLine, drawText, type Ink, type Raster, rasterOf } from './raster.js'

/** Sharp on the screens of today; the letters of `font_data.ts` are of this size. */
const scale = 2

/** The file. */
export const png = (chart: Chart): Buffer => {
  const raster = rasterOf(chart.width * scale, chart.height * scale, colourOf(ground.light))
  const everywhere = { left: 0, top: 0, right: raster.width, bottom: raster.height }
  const { plot } = chart
  const inPlot = {
    left: plot.left * scale,
    top: plot.top * scale,
    right: plot.right * scale,
    bottom: plot.bottom * scale,
  }
  for (const shape of chart.shapes) draw(raster, shape, { everywhere, inPlot })
  return encoded(raster)
}

const draw = (raster: Raster, shape: Shape, clips: Record<'everywhere' | 'inPlot', Box>): void => {
  const { light, opacity, width } = palette[shape.role]
  const ink: Ink = { colour: colourOf(light), opacity }
  switch (shape.kind) {
    case 'line': {
      const points = shape.points.map(([x, y]) => [x * scale, y * scale] as const)
      const clip = shape.clipped === true ? clips.inPlot : clips.everywhere
      return drawLine(raster, points, width * scale, ink, clip)
    }
    case 'dot':
      return drawDot(raster, shape.x * scale, shape.y * scale, Math.max(2, width / 2) * scale, ink)
    case 'text':
      return drawText(raster, shape.text, [shape.x * scale, shape.y * scale], shape.anchor, ink)
  }
}

const colourOf = (hex: string): Ink['colour'] => {
  const [red = 0, green = 0, blue = 0] = Buffer.from(hex.slice(1), 'hex')
  return [red, green, blue]
}

const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])

/** The pixels as a PNG of 8 bits a channel without transparency (ISO 15948). */
export const encoded = ({ width, height, pixels }: Raster): Buffer => {
  const header = Buffer.alloc(13)
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  // 8 bits a channel, red green blue.
  header.set([8, 2], 8)
  const rows = Buffer.alloc(height * (1 + 3 * width))
  for (let y = 0; y < height; y++) {
    // The byte before each row names its filter; 0 is none, and does well where most of a row is one colour.
    rows.set(pixels.subarray(3 * width * y, 3 * width * (y + 1)), y * (1 + 3 * width) + 1)
  }
  const data = deflateSync(rows, { level: 9 })
  return Buffer.concat([
    signature,
    chunk('IHDR', header),
    chunk('IDAT', data),
    chunk('IEND', Buffer.alloc(0)),
  ])
}

const chunk = (type: string, data: Buffer): Buffer => {
  const framed = Buffer.alloc(12 + data.length)
  framed.writeUInt32BE(data.length, 0)
  framed.write(type, 4, 'latin1')
  framed.set(data, 8)
  framed.writeUInt32BE(crc32(framed.subarray(4, 8 + data.length)), 8 + data.length)
  return framed
}

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1
  return crc
})

/** CRC-32 as PNG and zlib count it; Node's own came after the oldest Node that this runs on. */
const crc32 = (bytes: Uint8Array): number => {
  let crc = 0xffffffff
  for (const byte of bytes) crc = (table[(crc ^ byte) & 0xff] ?? 0) ^ (crc >>> 8)
  return (crc ^ 0xffffffff) >>> 0
}
