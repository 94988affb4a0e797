// The instruction rows of the demo: sorting reviews, extracting a name or a place, answering a question from a sentence.
//
// Held-out rows share no (instruction, input) with training rows. Beyond that, half of them are made of words that no
// training row has (names, places, opinions that only the pre-training text uses), and the other half of combinations
// that training leaves out; so they can't be answered by remembering rows.

import type { Random } from './random.js'
import {
  askAbout,
  drawEvent,
  drawOpinion,
  eventSentence,
  LANGUAGES,
  type LanguageName,
  meetingSentence,
  type Opinion,
  opinionSentence,
  type Vocabulary,
  wordsOf,
} from './sentences.js'

export interface Row {
  instruction: string
  input: string
  output: string
}

export type Task = 'review' | 'extract' | 'question'
export const TASKS: readonly Task[] = ['review', 'extract', 'question']

const INSTRUCTIONS = {
  review: { de: 'Ist die Bewertung positiv oder negativ?', en: 'Is the review positive or negative?' },
  name: { de: 'Nenne den Namen im Text.', en: 'Name the person in the text.' },
  place: { de: 'Nenne den Ort im Text.', en: 'Name the place in the text.' },
  question: { de: 'Beantworte die Frage.', en: 'Answer the question.' },
} as const
const LABELS = { de: { good: 'positiv', bad: 'negativ' }, en: { good: 'positive', bad: 'negative' } } as const

/** A row and the combinations of words that it stands on, by which rows are dealt to training and held-out. */
interface Drawn {
  row: Row
  combinations: string[]
}

function reviewRow(random: Random, language: LanguageName, vocabulary: Vocabulary): Drawn {
  const opinion: Opinion = drawOpinion(random, language, random.pick(['good', 'bad'] as const), vocabulary)
  const row = {
    instruction: INSTRUCTIONS.review[language],
    input: opinionSentence(random, opinion),
    output: LABELS[language][opinion.polarity],
  }
  return { row, combinations: opinion.adjectives.map((adjective) => `${opinion.subject} ${adjective}`) }
}

function extractRow(random: Random, language: LanguageName, vocabulary: Vocabulary): Drawn {
  const { names, places } = LANGUAGES[language]
  const [name, place] = [random.pick(wordsOf(names, vocabulary)), random.pick(wordsOf(places, vocabulary))]
  const asked = random.pick(['name', 'place'] as const)
  const row = {
    instruction: INSTRUCTIONS[asked][language],
    input: meetingSentence(random, language, name, place),
    output: asked === 'name' ? name : place,
  }
  return { row, combinations: [`${name} ${place}`] }
}

function questionRow(random: Random, language: LanguageName, vocabulary: Vocabulary): Drawn {
  const event = drawEvent(random, language, vocabulary)
  const { question, answer } = askAbout(random, event)
  const row = {
    instruction: INSTRUCTIONS.question[language],
    input: `${eventSentence(random, event)} ${question}`,
    output: answer,
  }
  return { row, combinations: [`${event.name} ${event.place}`] }
}

const DRAW = { review: reviewRow, extract: extractRow, question: questionRow }

/** FNV-1a, 32 bits: deals combinations to the two sets, the same on every platform. */
function hash(text: string): number {
  let h = 0x811c9dc5
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
  return h >>> 0
}

const isHeldOut = (combination: string): boolean => hash(combination) % 5 === 0

/** `count` rows, tasks and languages in turn, no two with the same instruction and input; then shuffled. */
function collect(
  random: Random,
  count: number,
  draw: (task: Task, language: LanguageName, i: number) => Row | null,
): Row[] {
  const rows: Row[] = []
  const seen = new Set<string>()
  // Each draw may repeat a row or miss its set; the bound turns a set that is too small into an error.
  for (let tries = 0; rows.length < count; tries++) {
    if (tries > 1000 * count) throw new Error(`only ${rows.length} of ${count} different rows`)
    const task = TASKS[rows.length % TASKS.length] ?? 'review'
    const row = draw(task, Math.floor(rows.length / TASKS.length) % 2 === 0 ? 'de' : 'en', rows.length)
    const key = row && `${row.instruction}\n${row.input}`
    if (row === null || key === null || seen.has(key)) continue
    seen.add(key)
    rows.push(row)
  }
  return random.shuffle(rows)
}

export function trainRows(random: Random, count: number): Row[] {
  return collect(random, count, (task, language) => {
    const { row, combinations } = DRAW[task](random, language, 'train')
    return combinations.some(isHeldOut) ? null : row
  })
}

export function heldOutRows(random: Random, count: number): Row[] {
  return collect(random, count, (task, language, i) => {
    const newWords = Math.floor(i / (2 * TASKS.length)) % 2 === 0
    const { row, combinations } = DRAW[task](random, language, newWords ? 'heldOut' : 'train')
    return newWords || combinations.every(isHeldOut) ? row : null
  })
}
