// `lora-train doctor`: what this machine has, and how fast it is.

import { z } from 'zod'
import { formatBytes } from '../../config/index.js'
import type { DoctorReport } from '../../native/contract.js'
import { examineWith } from '../../trainer/plan.js'
import { plainCommand, print } from '../command.js'
import { json } from '../options.js'

export const doctor = plainCommand({
  name: 'doctor',
  summary: 'Say what this machine has: instruction sets, threads, memory, measured speeds.',
  options: z.strictObject({ json }),
  run: async (own, world) => {
    const report = await examineWith(await world.engine())
    print(world.stdout, own.json ? [JSON.stringify(report)] : doctorTable(report))
  },
})

/** Lines of the table; a speed that was reached stands beside the limit that was measured. */
const doctorTable = (report: DoctorReport): string[] => {
  const rows: [string, string][] = [
    ['processor', report.cpu],
    ['instruction sets', report.isas.map((isa) => (isa === report.isa ? `${isa} (used)` : isa)).join(', ')],
    ['threads', String(report.threads)],
    ['memory', `${formatBytes(report.memoryFreeBytes)} free of ${formatBytes(report.memoryTotalBytes)}`],
    ['matrix products, f32', speed(report.gemmGflopsF32, report.peakGflopsF32)],
    ['matrix products, bf16', speed(report.gemmGflopsBf16, report.peakGflopsBf16)],
    ['copying', `${report.copyGbPerS.toFixed(1)} GB/s`],
    ['node', `${process.version} on ${process.platform}-${process.arch}`],
  ]
  const width = Math.max(...rows.map(([name]) => name.length))
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`)
}

const speed = (reached: number, peak: number): string => {
  const share = peak > 0 ? ` (${Math.round((100 * reached) / peak)} %)` : ''
  return `${reached.toFixed(0)} of ${peak.toFixed(0)} GFLOP/s${share}`
}
