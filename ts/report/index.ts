// The reports of a training run, put together as the command line needs them.

import { jsonReport } from './json.js'
import type { Output } from './progress.js'
import { type Report, type TextOutputs, textReport } from './text.js'

export { withReports, writeReportOf } from './files.js'
export { planTable, shortage, trainableLine } from './plan_table.js'
export type { Output } from './progress.js'
export type { Report } from './text.js'

export interface ReportOptions {
  stdout: Output
  stderr: Output
  /** json: one object per event on stdout, and people's text on stderr. */
  format: 'text' | 'json'
  progressStyle: TextOutputs['progressStyle']
}

/** The report that `lora-train train` makes. */
export const createReport = ({ stdout, stderr, format, progressStyle }: ReportOptions): Report => {
  if (format === 'text') return textReport({ lines: stdout, progress: stderr, progressStyle })
  const json = jsonReport(stdout)
  const text = textReport({ lines: stderr, progress: stderr, progressStyle })
  return (event) => {
    json(event)
    text(event)
  }
}
