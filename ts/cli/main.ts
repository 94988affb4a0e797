#!/usr/bin/env node
// The program: gives the commands the real world, and is the only file that ends the process.

import { exitStatus, native } from '../native/index.js'
import { failureLines, run } from './run.js'
import { interruptsOf } from './signals.js'

// A reader that has gone away (`| head`) needs no message, but a run that ends by it has not ended well.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit(exitStatus('OUTPUT'))
})
process.on('uncaughtException', (error) => {
  process.stderr.write(`${failureLines(error).join('\n')}\n`)
  process.exit(exitStatus('INTERNAL'))
})

const { stdout, stderr, env } = process
const interrupts = interruptsOf(process, {
  said: (text) => stderr.write(text),
  end: (status) => process.exit(status),
})
const world = { stdout, stderr, env, engine: native, interruptible: interrupts.listen }
const status = await run(process.argv.slice(2), world)
// Pipes may still hold text; process.exit would drop it.
await new Promise((written) => stdout.write('', written))
process.exit(status === exitStatus('CANCELLED') ? (interrupts.status() ?? status) : status)
