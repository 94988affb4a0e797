// How the roles of a chart look, on light and on dark ground.

import type { Role } from './loss_chart.js'

export interface Look {
  /** `#rrggbb` */
  light: string
  dark: string
  opacity: number
  /** Of lines; twice the radius of dots. */
  width: number
}

export const ground = { light: '#ffffff', dark: '#14171c' }

export const palette: Record<Role, Look> = {
  grid: { light: '#dfe3e8', dark: '#2b313a', opacity: 1, width: 1 },
  border: { light: '#9aa3af', dark: '#6b7480', opacity: 1, width: 1.25 },
  raw: { light: '#2f6fde', dark: '#5b93ea', opacity: 0.4, width: 1.1 },
  smooth: { light: '#1f57c3', dark: '#d5e5ff', opacity: 1, width: 2.4 },
  evaluation: { light: '#d9480f', dark: '#ff9f5a', opacity: 1, width: 8 },
  'first-wide': { light: '#a9c4f5', dark: '#2c4f8f', opacity: 1, width: 6 },
  first: { light: '#2f6fde', dark: '#5b93ea', opacity: 1, width: 3 },
  'first-narrow': { light: '#0b2a66', dark: '#eaf1ff', opacity: 1, width: 1 },
  'second-wide': { light: '#fbc9ad', dark: '#8a4317', opacity: 1, width: 6 },
  second: { light: '#d9480f', dark: '#ff9f5a', opacity: 1, width: 3 },
  'second-narrow': { light: '#5c1d04', dark: '#fff0e4', opacity: 1, width: 1 },
  title: { light: '#15191f', dark: '#eceff3', opacity: 1, width: 0 },
  label: { light: '#56606d', dark: '#a4adb9', opacity: 1, width: 0 },
}
