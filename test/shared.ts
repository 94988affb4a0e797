// Where the reference results lie that the repository does not hold, and what a test does without them.

import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { ExecutionContext, Implementation, TestFn } from 'ava'

/** The folder of reference results: LORA_TRAIN_SHARED, or `shared` beside the checkout. */
export const sharedFolder =
  process.env.LORA_TRAIN_SHARED ?? fileURLToPath(new URL('../../shared', import.meta.url))

const mustBeThere = process.env.CI === 'true'

/**
 * Declares a test that reads from the shared folder. Without the folder it is skipped, by its name,
 * and under CI=true it fails.
 */
export const sharedTest = (test: TestFn, title: string, run: Implementation<[]>): void => {
  if (existsSync(sharedFolder)) test(title, run)
  else if (mustBeThere) {
    test(title, (t: ExecutionContext) => t.fail(`${sharedFolder} is missing; set LORA_TRAIN_SHARED`))
  } else test.skip(title, run)
}
