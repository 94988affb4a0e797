#!/usr/bin/env node
// The program: gives the commands the real world, and is the only file that ends the process.

import { constants } from 'node:os'
import { exitStatus, native } from '../native/index.js'
import { failureLines, run } from './run.js'

/** 130 for SIGINT, 143 for SIGTERM, as shells count them. */
const statusOf = (signal: 'SIGINT' | 'SIGTERM'): number => 128 + constants.signals[signal]

let interruptedWith: number | undefined

const interruptible = (): AbortSignal => {
  const controller = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      // Whoever asks twice does not want to wait.
      if (interruptedWith !== undefined) process.exit(statusOf(signal))
      interruptedWith = statusOf(signal)
      controller.abort()
    })
  }
  return controller.signal
}

// A reader that has gone away (`| head`) needs no message, but a run that ends by it has not ended well.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit(exitStatus('OUTPUT'))
})
process.on('uncaughtException', (error) => {
  process.stderr.write(failureLines(error).join('\n').concat('\n'))
  process.exit(exitStatus('INTERNAL'))
})

const { stdout, stderr, env } = process
const status = await run(process.argv.slice(2), { stdout, stderr, env, engine: native, interruptible })
// Pipes may still hold text; process.exit would drop it.
await new Promise((written) => stdout.write('', written))
process.exit(status === 130 ? (interruptedWith ?? status) : status)
