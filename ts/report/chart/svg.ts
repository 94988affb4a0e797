// A chart as an SVG document: legible on light and on dark ground, without a script or a font of its own.

import type { Chart, Role, Shape } from './loss_chart.js'
import { ground, palette } from './palette.js'

/** The document. */
export const svg = ({ width, height, title, shapes, plot }: Chart): string => {
  const { left, top, right, bottom } = plot
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">`,
    `<title>${escaped(title)}</title>`,
    `<style>${style(new Set(shapes.map(({ role }) => role)))}</style>`,
    `<clipPath id="plot"><rect x="${left}" y="${top}" width="${right - left}" height="${bottom - top}"/></clipPath>`,
    `<rect class="ground" width="${width}" height="${height}"/>`,
    ...shapes.map(element),
    '</svg>',
    '',
  ].join('\n')
}

/** Text that stands in XML and in HTML, in an element or between quotes. Leaves out what XML can't hold. */
export const escaped = (text: string): string =>
  text
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '')
    .replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)

const style = (used: ReadonlySet<Role>): string => {
  const rules = (theme: 'light' | 'dark'): string =>
    [
      `.ground{fill:${ground[theme]}}`,
      ...[...used].map((role) => `.${role}{--colour:${palette[role][theme]}}`),
    ].join('')
  return [
    rules('light'),
    `@media(prefers-color-scheme:dark){${rules('dark')}}`,
    'path{fill:none;stroke:var(--colour);stroke-linejoin:round;stroke-linecap:round}',
    'circle,text{fill:var(--colour)}',
    'text{font:13px system-ui,"DejaVu Sans",sans-serif}.title{font-weight:600}',
  ].join('')
}

const element = (shape: Shape): string => {
  const { role } = shape
  const { opacity, width } = palette[role]
  const faint = opacity < 1 ? ` opacity="${opacity}"` : ''
  switch (shape.kind) {
    case 'line': {
      const path = shape.points.map(([x, y]) => `${short(x)} ${short(y)}`).join('L')
      const clip = shape.clipped === true ? ' clip-path="url(#plot)"' : ''
      return `<path class="${role}" stroke-width="${width}"${faint}${clip} d="M${path}"/>`
    }
    case 'dot':
      return `<circle class="${role}"${faint} cx="${short(shape.x)}" cy="${short(shape.y)}" r="${Math.max(2, width / 2)}"/>`
    case 'text':
      return `<text class="${role}" x="${short(shape.x)}" y="${short(shape.y)}" text-anchor="${shape.anchor}">${escaped(shape.text)}</text>`
  }
}

/** A hundredth of a pixel is more than anyone sees. */
const short = (length: number): string => String(Math.round(length * 100) / 100)
