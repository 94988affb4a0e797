// What the figures were measured on, and the speed that limits them. Holds no figure itself.

import type { DoctorReport, Native } from '../ts/native/contract.js'
import { unwrap } from '../ts/native/errors.js'

/** Every instruction set that the kernels are written for, as `Isa::name` spells them. */
const knownIsas = ['portable', 'avx2', 'avx512', 'avx512bf16', 'amx', 'neon']

export type Dtype = 'f32' | 'bf16'

/** Instruction sets, threads and speeds, measured now, in about a second. */
export const examine = async (engine: Native): Promise<DoctorReport> =>
  JSON.parse(unwrap(await engine.doctor()).json) as DoctorReport

/** GFLOP/s of multiply-adds on registers, all threads. */
export const peakGflops = (report: DoctorReport, dtype: Dtype): number =>
  dtype === 'bf16' ? report.peakGflopsBf16 : report.peakGflopsF32

/** CPU, instruction set and threads. */
export const machineLine = ({ cpu, isa, threads }: DoctorReport): string =>
  `${cpu}, ${threads} ${threads === 1 ? 'thread' : 'threads'}, instruction set ${isa}`

/** Which instruction sets run, and which this CPU lacks. */
export const isaLine = (isas: readonly string[]): string => {
  const missing = knownIsas.filter((isa) => !isas.includes(isa))
  return `instruction sets that ran: ${isas.join(', ')}; not on this CPU: ${missing.join(', ') || 'none'}`
}
