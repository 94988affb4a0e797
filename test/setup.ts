// What every test process begins with: a cache folder of its own, so that no test reads or writes the user's.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const folder = mkdtempSync(join(tmpdir(), 'lora-train-cache-'))
process.env.LORA_TRAIN_CACHE = folder
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
