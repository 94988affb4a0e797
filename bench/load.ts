// How busy other programs keep the CPUs. A steady neighbour slows every repetition alike, so no spread shows it.

import { type CpuInfo, cpus } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'

/** More than this share of the CPUs in other hands: figures are not the machine's. */
const quietUpTo = 0.05

const sampleMs = 1000

/** The share of all CPUs' time that was not idle between two readings. */
export const busyShare = (before: readonly CpuInfo[], after: readonly CpuInfo[]): number => {
  const total = (readings: readonly CpuInfo[]): { idle: number; all: number } => {
    const idle = readings.reduce((sum, { times }) => sum + times.idle, 0)
    const busy = readings.reduce((sum, { times: t }) => sum + t.user + t.nice + t.sys + t.irq, 0)
    return { idle, all: idle + busy }
  }
  const [first, last] = [total(before), total(after)]
  const all = last.all - first.all
  return all > 0 ? 1 - (last.idle - first.idle) / all : 0
}

/** What other programs take of the CPUs for a second in which this one does nothing. */
export const othersShare = async (): Promise<number> => {
  const before = cpus()
  await sleep(sampleMs)
  return busyShare(before, cpus())
}

/** The warning for a benchmark before and after which others took these shares; nothing for a quiet machine. */
export const loadWarning = (shares: readonly number[]): string[] => {
  const most = Math.max(0, ...shares)
  if (most <= quietUpTo) return []
  return [
    `NOISY MACHINE: other programs take ${(100 * most).toFixed(0)} % of the CPUs; speeds are lower than this machine’s.`,
  ]
}
