// What the project will do and does not do yet. Whoever builds one of these deletes its entry here, and nothing else.
// Options that will never be offered stand in `refused.ts`.

import type { Rule } from './rules.js'

export const notYet: readonly Rule[] = [
  {
    option: 'optim',
    when: ({ optim }) => optim !== 'adamw_torch',
    say: ({ optim }) => `optim ${optim} is not built yet`,
    hint: 'Use adamw_torch: the same steps with f32 state, which takes 8 bytes for each trained parameter.',
    refuse: true,
  },
]
