// `lora-train report`: the pictures of a run that is over, from the log that it left.

import { z } from 'zod'
import { resolveOwn } from '../../config/index.js'
import { ours } from '../../config/meta.js'
import { LoraTrainError } from '../../native/errors.js'
import { writeReportOf } from '../../report/index.js'
import { type Command, print } from '../command.js'
import { json } from '../options.js'

const options = z.strictObject({
  output_dir: z.string().min(1).nullable().default(null).meta({
    description: 'Folder for the files.',
    source: ours,
    default_text: 'FOLDER',
    path: true,
  }),
  json: json.meta({ description: 'Print the paths as JSON.' }),
})

export const report: Command = {
  name: 'report',
  summary:
    "Draw loss.svg, loss.png and report.html from the trainer_state.json of a run: Transformers' or ours.",
  usage: 'FOLDER [--output_dir FOLDER]',
  takes: 'nothing',
  options,
  run: async ([folder, ...words], world) => {
    if (folder === undefined || folder.startsWith('-')) {
      throw new LoraTrainError(
        'USAGE',
        'report lacks the folder of a run',
        'Write it first: lora-train report ./out',
      )
    }
    const { output_dir, json: asJson } = resolveOwn(words, options)
    const paths = await writeReportOf(folder, output_dir ?? folder)
    print(world.stdout, asJson ? [JSON.stringify(paths)] : paths.map((path) => `Saved ${path}`))
  },
}
