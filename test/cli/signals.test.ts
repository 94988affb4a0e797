// Signals: the first asks, the second ends, and each has its status.

import { EventEmitter } from 'node:events'
import test from 'ava'
import { interruptsOf } from '../../ts/cli/signals.js'

for (const [name, status] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  test(`${name} aborts, and a second signal ends with ${status}`, (t) => {
    const source = new EventEmitter()
    const ended: number[] = []
    const said: string[] = []
    const interrupts = interruptsOf(source, { said: (text) => said.push(text), end: (at) => ended.push(at) })
    t.is(source.listenerCount(name), 0, 'nothing is caught before a command asks for it')
    const signal = interrupts.listen()
    t.is(interrupts.status(), undefined)
    source.emit(name)
    t.true(signal.aborted)
    t.is(interrupts.status(), status)
    t.deepEqual(ended, [])
    source.emit(name)
    t.deepEqual(ended, [status])
    t.is(said.length, 1)
  })
}
