// The addon's generated types against the contract that the rest of TypeScript is written to.
// The proof is `npm run types`: where Rust and the contract drift apart, this file does not compile.

import test from 'ava'
import type * as Contract from '../../ts/native/contract.js'
import { native } from '../../ts/native/index.js'
import type * as Generated from '../../ts/native/native.js'

/** `true` where each of the two types takes the place of the other, so that neither has a field that the other lacks. */
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false

/** Awaited results of the methods of an object or a module; the arguments are compared as they are. */
type Calls<T> = {
  [Name in keyof T]: T[Name] extends (...args: infer Args) => infer Result
    ? [Args, Plain<Awaited<Result>>]
    : never
}

/** Codes as the strings that they are: the contract has a union where the generated file has a string enum. */
type Plain<T> = T extends string
  ? `${T}`
  : T extends Uint32Array | Int32Array
    ? T
    : T extends (...args: infer Args) => infer Result
      ? (...args: Args) => Plain<Awaited<Result>>
      : T extends object
        ? { [Name in keyof T]: Plain<T[Name]> }
        : T

const holds = <Claim extends true>(...claims: Claim[]): number => claims.length

/** What the addon exports beside functions and classes is no part of the contract. */
type Module = Pick<typeof Generated, 'openTokenizer' | 'plan' | 'doctor' | 'openSession'>

test('what crosses the bridge has the shapes of the contract', (t) => {
  holds<Same<Contract.NativeCode, `${Generated.Code}`>>(true)
  holds<Same<Contract.Failed, Plain<Generated.Failed>>>(true)
  holds<Same<Contract.TokenizerInfo, Generated.TokenizerInfo>>(true)
  holds<Same<Contract.RowOptions, Generated.RowOptions>>(true)
  holds<Same<Contract.EncodedRows, Generated.EncodedRows>>(true)
  holds<Same<Contract.StepBatch, Generated.StepBatch>>(true)
  holds<Same<Contract.StepReport, Generated.StepReport>>(true)
  holds<Same<Contract.LossReport, Generated.LossReport>>(true)
  holds<Same<keyof Contract.Tokenizer, keyof Generated.Tokenizer>>(true)
  holds<Same<keyof Contract.Session, keyof Generated.Session>>(true)
  holds<Same<Calls<Contract.Tokenizer>, Calls<Generated.Tokenizer>>>(true)
  holds<Same<Calls<Contract.Session>, Calls<Generated.Session>>>(true)
  holds<Same<Calls<Contract.Native>, Calls<Module>>>(true)
  t.pass()
})

test('drift does not compile', (t) => {
  type Drifted = Omit<Contract.StepReport, 'gradNorm'>
  // @ts-expect-error A field is missing.
  holds<Same<Drifted, Generated.StepReport>>(true)
  // @ts-expect-error A field has another type.
  holds<Same<Drifted & { gradNorm: string }, Generated.StepReport>>(true)
  // @ts-expect-error A code more.
  holds<Same<Contract.NativeCode | 'NEW', `${Generated.Code}`>>(true)
  type Session = Omit<Contract.Session, 'step'> & {
    step(batch: Contract.StepBatch): Promise<Contract.Failed>
  }
  // @ts-expect-error A method takes fewer arguments.
  holds<Same<Calls<Session>, Calls<Generated.Session>>>(true)
  t.pass()
})

test('the addon that is loaded has every function of the contract', async (t) => {
  const names: Record<keyof Contract.Native, true> = {
    openTokenizer: true,
    plan: true,
    doctor: true,
    openSession: true,
  }
  const addon: Contract.Native = await native()
  for (const name of Object.keys(names) as (keyof Contract.Native)[])
    t.is(typeof addon[name], 'function', name)
})
