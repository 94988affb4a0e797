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
  LABELS,
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

/** What a row asks for, in the order in which rows are drawn; so every label is as frequent as its opposite. */
const KINDS = ['good', 'question', 'name', 'bad', 'question', 'place'] as const
type Kind = (typeof KINDS)[number]

const REVIEW = { de: 'Ist die Bewertung positiv oder negativ?', en: 'Is the review positive or negative?' }
const INSTRUCTIONS = {
  good: REVIEW,
  bad: REVIEW,
  name: { de: 'Nenne den Namen im Text.', en: 'Name the person in the text.' },
  place: { de: 'Nenne den Ort im Text.', en: 'Name the place in the text.' },
  question: { de: 'Beantworte die Frage.', en: 'Answer the question.' },
} as const

/** A row and the combinations of words that it stands on, by which rows are dealt to training and held-out. */
interface Drawn {
  row: Row
  combinations: string[]
}

interface Wanted<K extends Kind> {
  kind: K
  language: LanguageName
  vocabulary: Vocabulary
}

function reviewRow(random: Random, { kind, language, vocabulary }: Wanted<'good' | 'bad'>): Drawn {
  const opinion: Opinion = drawOpinion(random, language, kind, vocabulary)
  const row = {
    instruction: INSTRUCTIONS[kind][language],
    input: opinionSentence(random, opinion),
    output: LABELS[language][opinion.polarity],
  }
  return { row, combinations: opinion.adjectives.map((adjective) => `${opinion.subject} ${adjective}`) }
}

function extractRow(random: Random, { kind, language, vocabulary }: Wanted<'name' | 'place'>): Drawn {
  const { names, places } = LANGUAGES[language]
  const [name, place] = [random.pick(wordsOf(names, vocabulary)), random.pick(wordsOf(places, vocabulary))]
  const row = {
    instruction: INSTRUCTIONS[kind][language],
    input: meetingSentence(random, language, name, place),
    output: kind === 'name' ? name : place,
  }
  return { row, combinations: [`${name} ${place}`] }
}

function questionRow(random: Random, { language, vocabulary }: Wanted<'question'>): Drawn {
  const event = drawEvent(random, language, vocabulary)
  const { question, answer } = askAbout(random, event)
  const row = {
    instruction: INSTRUCTIONS.question[language],
    input: `${eventSentence(random, event)} ${question}`,
    output: answer,
  }
  return { row, combinations: [`${event.name} ${event.place}`] }
}

function drawRow(random: Random, wanted: Wanted<Kind>): Drawn {
  const { kind } = wanted
  if (kind === 'good' || kind === 'bad') return reviewRow(random, { ...wanted, kind })
  return kind === 'question'
    ? questionRow(random, { ...wanted, kind })
    : extractRow(random, { ...wanted, kind })
}

/** FNV-1a, 32 bits: deals combinations to the two sets, the same on every platform. */
function hash(text: string): number {
  let h = 0x811c9dc5
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
  return h >>> 0
}

const isHeldOut = (combination: string): boolean => hash(combination) % 5 === 0

/** `count` rows, kinds and languages in turn, no two with the same instruction and input; then shuffled. */
function collect(
  random: Random,
  count: number,
  draw: (kind: Kind, language: LanguageName, round: number) => Row | null,
): Row[] {
  const rows: Row[] = []
  const seen = new Set<string>()
  // Each draw may repeat a row or miss its set; the bound turns a set that is too small into an error.
  for (let tries = 0; rows.length < count; tries++) {
    if (tries > 1000 * count) throw new Error(`only ${rows.length} of ${count} different rows`)
    const kind = KINDS[rows.length % KINDS.length] ?? 'good'
    const round = Math.floor(rows.length / KINDS.length)
    const row = draw(kind, round % 2 === 0 ? 'de' : 'en', round)
    const key = row && `${row.instruction}\n${row.input}`
    if (row === null || key === null || seen.has(key)) continue
    seen.add(key)
    rows.push(row)
  }
  return random.shuffle(rows)
}

export function trainRows(random: Random, count: number): Row[] {
  return collect(random, count, (kind, language) => {
    const { row, combinations } = drawRow(random, { kind, language, vocabulary: 'train' })
    return combinations.some(isHeldOut) ? null : row
  })
}

/** Every other pair of rounds is of new words, the others of new combinations of known ones. */
export function heldOutRows(random: Random, count: number): Row[] {
  return collect(random, count, (kind, language, round) => {
    const newWords = Math.floor(round / 2) % 2 === 0
    const vocabulary = newWords ? 'heldOut' : 'train'
    const { row, combinations } = drawRow(random, { kind, language, vocabulary })
    return newWords || combinations.every(isHeldOut) ? row : null
  })
}
