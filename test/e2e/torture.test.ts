// A tenth of `npm run torture`: the real program is killed in the middle of stepping and saving, and loses nothing.

import test from 'ava'
import { folderOf } from '../folder.js'
import { randomOf } from './resume.js'
import { torture } from './torture.js'

test('ten kills at random moments lose nothing but the steps since the last checkpoint', async (t) => {
  const values = { lora: { target_modules: 'all-linear' as const, lora_dropout: 0.2 } }
  const outcome = await torture({ folder: folderOf(t), values, kills: 10, random: randomOf(1) })
  t.is(outcome.kills, 10)
  t.true(outcome.finished >= 1)
  t.log(
    `${outcome.kills} kills, ${outcome.inSaving} of them in saving; ${outcome.finished} runs to their end`,
  )
})
