// What the project will do and does not do yet. Whoever builds one of these deletes its entry here, and nothing else.
// Options that will never be offered stand in `refused.ts`.

import type { Rule } from './rules.js'

export const notYet: readonly Rule[] = [
  {
    option: 'resume_from_checkpoint',
    when: ({ resume_from_checkpoint: from }) => from !== null && from !== false,
    say: () => 'training cannot be resumed yet',
    hint: 'Leave resume_from_checkpoint out and start anew.',
    refuse: true,
  },
  {
    option: 'save_strategy',
    when: ({ save_strategy: strategy }) => strategy !== 'no',
    say: () => 'checkpoints are not written yet; the result is written at the end',
    hint: '',
    refuse: false,
  },
]
