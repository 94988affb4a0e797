// A folder of its own for one test, gone when the test ends.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'

export const folderOf = (t: ExecutionContext): string => {
  const path = mkdtempSync(join(tmpdir(), 'lora-train-test-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}
