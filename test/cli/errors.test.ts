// Codes and exit statuses: each code has one, and a code without one does not compile.

import test from 'ava'
import { match } from 'ts-pattern'
import type { NativeCode } from '../../ts/native/contract.js'
import { type Code, exitStatus, LoraTrainError, unwrap } from '../../ts/native/errors.js'

test('every code has its exit status', (t) => {
  const statuses: Record<Code, number> = {
    INTERNAL: 1,
    NOT_BUILT: 1,
    USAGE: 2,
    CONFIG: 2,
    DATA: 3,
    MODEL_FILES: 4,
    MEMORY: 5,
    DEVICE: 6,
    DIVERGED: 7,
    OUTPUT: 8,
    CANCELLED: 130,
  }
  for (const [code, status] of Object.entries(statuses)) t.is(exitStatus(code as Code), status, code)
})

test('a code without a case does not compile', (t) => {
  const status = (code: NativeCode): number =>
    match(code)
      .with('INTERNAL', () => 1)
      .with('CONFIG', () => 2)
      .with('DATA', () => 3)
      .with('MODEL_FILES', () => 4)
      .with('MEMORY', () => 5)
      .with('DEVICE', () => 6)
      .with('DIVERGED', () => 7)
      .with('OUTPUT', () => 8)
      // @ts-expect-error CANCELLED has no case; `npm run types` fails where it had one.
      .exhaustive()
  t.throws(() => status('CANCELLED'))
})

test('unwrap returns a value and throws a failure', (t) => {
  t.deepEqual(unwrap({ done: true }), { done: true })
  const error = t.throws(() => unwrap({ error: { code: 'DATA', message: 'm', hint: 'h' } }), {
    instanceOf: LoraTrainError,
  })
  t.like(error, { code: 'DATA', message: 'm', hint: 'h', name: 'LoraTrainError' })
})
