// A training run for people: log lines, the plan, and a progress bar on a terminal or plain lines elsewhere.
// Turns events into text and writes it where it is told; decides nothing about the run.

import { basename } from 'node:path'
import { match } from 'ts-pattern'
import { counted } from '../config/counted.js'
import { formatBytes } from '../config/memory.js'
import type {
  CheckedEvent,
  DataEvent,
  DownloadedEvent,
  DownloadingEvent,
  EvaluatingEvent,
  InterruptedEvent,
  LoadedEvent,
  LoadingEvent,
  ResumedEvent,
  StartEvent,
  StepEvent,
  TrainEvent,
  WorkingEvent,
} from '../trainer/events.js'
import { closingLine, evalLine, logLine } from './log_line.js'
import { planTable, trainableLine } from './plan_table.js'
import { type BarState, createBar, formatRate, formatTime, type Output } from './progress.js'

/** Takes each event of a run, in order. */
export type Report = (event: TrainEvent) => void

export interface TextOutputs {
  /** Where whole lines go. */
  lines: Output
  /** Where the bar is drawn where that is a terminal; else plain lines of progress go there, now and then. */
  progress: Output
  /** Whether progress is shown at all; log lines always are. */
  progressStyle: 'shown' | 'hidden'
}

/** Loading that takes less than this is not worth a bar. */
const quietLoadingMs = 2000
/** Between plain lines of progress. */
const plainLineMs = 30_000

/** A report that writes text. */
export const textReport = (outputs: TextOutputs): Report => {
  const { print, show, clear, endBar, train, showTraining, work, endWork } = createWriter(outputs)
  return (event) => {
    if (event.type !== 'working') endWork()
    match(event)
      .with({ type: 'plan' }, ({ plan }) => print(...planTable(plan), trainableLine(plan)))
      .with({ type: 'data' }, (data) => print(...dataLines(data)))
      .with({ type: 'notice' }, ({ message }) => print(`Note: ${message}`))
      .with({ type: 'downloading' }, (downloading) => {
        if (isSlow(downloading)) show(downloadingState(downloading))
      })
      .with({ type: 'downloaded' }, (downloaded) => {
        endBar(quietLoadingMs)
        print(downloadedLine(downloaded))
      })
      .with({ type: 'working' }, work)
      .with({ type: 'loading' }, (loading) => {
        if (isSlow(loading)) show(loadingState(loading))
      })
      .with({ type: 'loaded' }, (loaded) => {
        endBar(plainLineMs)
        print(loadedLine(loaded))
      })
      .with({ type: 'start' }, (start) => {
        print(startLine(start))
        // The first step may take minutes; an empty bar says that it runs.
        train(startState(start))
        showTraining()
      })
      .with({ type: 'step' }, (step) => {
        const state = stepState(step)
        train(state)
        show(state)
      })
      .with({ type: 'log' }, ({ log }) => print(logLine(log)))
      .with({ type: 'evaluating' }, (evaluating) => show(evaluatingState(evaluating)))
      .with({ type: 'eval' }, ({ log }) => {
        clear()
        print(evalLine(log))
        showTraining()
      })
      .with({ type: 'resumed' }, (resumed) => print(resumedLine(resumed)))
      .with({ type: 'saved', what: 'checkpoint' }, ({ path }) => print(`Saved checkpoint to ${path}`))
      .with({ type: 'saved' }, ({ what, path }) => {
        endBar(plainLineMs)
        print(`Saved ${what} to ${path}`)
      })
      .with({ type: 'checked' }, (checked) => print(checkedLine(checked)))
      .with({ type: 'interrupted' }, (interrupted) => {
        endBar(plainLineMs)
        print(interruptedLine(interrupted))
      })
      .with({ type: 'done' }, ({ log }) => {
        endBar(plainLineMs)
        print(closingLine(log))
      })
      .exhaustive()
  }
}

/** Whole lines, and one bar for what lasts. */
const createWriter = ({ lines, progress, progressStyle }: TextOutputs) => {
  const bar = createBar(progress)
  let nextPlainLineMs = quietLoadingMs
  /** Where the training is: what the bar of an evaluation or a wait gives way to when it ends. */
  let training: BarState | undefined
  /** The wait that the bar shows. */
  let working: string | undefined
  const show = (state: BarState): void => {
    if (progressStyle === 'hidden') return
    if (progress.isTTY === true) bar.draw(state)
    else if (state.elapsedMs >= nextPlainLineMs) {
      nextPlainLineMs = state.elapsedMs + plainLineMs
      progress.write(`${plainLine(state)}\n`)
    }
  }
  /** The bar of a wait gives way to the training's, and to its clock. */
  const endWork = (): void => {
    if (working === undefined) return
    working = undefined
    bar.clear()
    nextPlainLineMs = training === undefined ? quietLoadingMs : training.elapsedMs + plainLineMs
  }
  return {
    show,
    endWork,
    clear: bar.clear,
    print(...text: string[]): void {
      bar.above(() => lines.write(`${text.join('\n')}\n`))
    },
    /** A new clock: what follows counts its own time. */
    endBar(firstPlainLineMs: number): void {
      bar.finish()
      nextPlainLineMs = firstPlainLineMs
    },
    train(state: BarState): void {
      training = state
    },
    /** On a terminal alone: a plain line says nothing that the last one did not. */
    showTraining(): void {
      if (training !== undefined && progress.isTTY === true) show(training)
    },
    work(event: WorkingEvent): void {
      const name = `${event.what} ${event.path}`
      if (name !== working) {
        endWork()
        bar.clear()
        nextPlainLineMs = quietLoadingMs
        working = name
      }
      if (isSlow(event)) show(workingState(event))
    },
  }
}

const downloadedLine = ({ id, bytes, elapsedMs, path }: DownloadedEvent): string =>
  `Downloaded ${id}, ${formatBytes(bytes)}, in ${(elapsedMs / 1000).toFixed(1)} s to ${path}`

const loadedLine = ({ model: { modelType, allParams, threads, isa }, elapsedMs }: LoadedEvent): string =>
  `Loaded ${modelType}, ${allParams} parameters, in ${(elapsedMs / 1000).toFixed(1)} s; ${threads} threads, ${isa}`

const resumedLine = ({ path, step }: ResumedEvent): string =>
  `Resumed from ${path}: ${counted(step, 'step is', 'steps are')} done`

const checkedLine = ({ what, path, largestDeviation }: CheckedEvent): string => {
  const logits = largestDeviation === 0 ? 'equal' : `within ${largestDeviation} of`
  return `Checked ${what} in ${path}: read back, its logits ${logits} those in memory`
}

const interruptedLine = ({ step, totalSteps, checkpoint }: InterruptedEvent): string => {
  const saved = checkpoint === null ? 'nothing was saved' : `the last whole one is in ${checkpoint}`
  return `Interrupted after ${step} of ${totalSteps} steps; ${saved}`
}

const plainLine = ({ label, position, elapsedMs, leftMs, notes }: BarState): string => {
  const left = leftMs === null ? '?' : formatTime(leftMs)
  return `${label}${position} [${[`${formatTime(elapsedMs)}<${left}`, ...notes].join(', ')}]`
}

const isSlow = ({ elapsedMs, leftMs }: Pick<WorkingEvent, 'elapsedMs' | 'leftMs'>): boolean =>
  elapsedMs + (leftMs ?? 0) > quietLoadingMs

const loadingState = (loading: LoadingEvent): BarState => bytesState('Loading: ', loading)

const downloadingState = (downloading: DownloadingEvent): BarState =>
  bytesState(`Downloading ${downloading.id}: `, downloading)

const bytesState = (
  label: string,
  { doneBytes, totalBytes, elapsedMs, leftMs }: LoadingEvent | DownloadingEvent,
): BarState => ({
  label,
  done: doneBytes,
  total: totalBytes,
  position: `${formatBytes(doneBytes)}/${formatBytes(totalBytes)}`,
  elapsedMs,
  leftMs,
  notes: [],
})

const workingLabels: Record<WorkingEvent['what'], string> = {
  hashing: 'Verifying',
  restoring: 'Restoring',
  saving: 'Saving',
  checking: 'Reading back',
}

const workingState = ({ what, path, unit, done, total, elapsedMs, leftMs }: WorkingEvent): BarState => {
  const position = unit === 'bytes' ? `${formatBytes(done)}/${formatBytes(total)}` : `${done}/${total} blocks`
  return {
    label: `${workingLabels[what]} ${basename(path)}: `,
    done,
    total,
    position,
    elapsedMs,
    leftMs,
    notes: [],
  }
}

const startState = ({ totalSteps }: StartEvent): BarState => ({
  label: '',
  done: 0,
  total: totalSteps,
  position: `0/${totalSteps}`,
  elapsedMs: 0,
  leftMs: null,
  notes: ['?it/s'],
})

const stepState = (event: StepEvent): BarState => ({
  label: '',
  done: event.step,
  total: event.totalSteps,
  position: `${event.step}/${event.totalSteps}`,
  elapsedMs: event.elapsedMs,
  leftMs: event.leftMs,
  notes: [
    formatRate(event.step, event.elapsedMs),
    `loss ${event.loss.toFixed(4)}`,
    `${Math.round(event.tokensPerSecond)} tokens/s`,
  ],
})

const evaluatingState = ({ doneBatches, totalBatches, elapsedMs }: EvaluatingEvent): BarState => ({
  label: 'Evaluating: ',
  done: doneBatches,
  total: totalBatches,
  position: `${doneBatches}/${totalBatches}`,
  elapsedMs,
  leftMs: (elapsedMs / doneBatches) * (totalBatches - doneBatches),
  notes: [formatRate(doneBatches, elapsedMs)],
})

const startLine = (start: StartEvent): string =>
  `Training on ${start.trainRows} rows: ${start.totalSteps} steps, ${start.stepsPerEpoch} an epoch, ` +
  `${start.microBatchRows} × ${start.gradientAccumulationSteps} rows a step, ${start.warmupSteps} of warm-up`

const dataLines = (data: DataEvent): string[] => {
  const lines = [
    `${data.path}: ${data.rows} rows, ${data.tokens} tokens, ${data.supervisedTokens} of them supervised; ` +
      `${data.lengthMin} to ${data.lengthMax} a row, ${data.lengthMean.toFixed(1)} on average`,
  ]
  if (data.cutRows.length > 0) {
    lines.push(`  cut by model_max_length: ${rowsText(data.cutRows)}`)
  }
  if (data.unsupervisedRows.length > 0) {
    lines.push(`  left out, without a supervised token: ${rowsText(data.unsupervisedRows)}`)
  }
  return lines
}

const namedRows = 10

/** `3 rows (5, 17, 20)`; of many, the first ones. */
const rowsText = (rows: number[]): string => {
  const names = rows.slice(0, namedRows).join(', ')
  return `${counted(rows.length, 'row')} (${names}${rows.length > namedRows ? ', …' : ''})`
}
