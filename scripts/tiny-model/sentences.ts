// Sentences about who did what, where and when, and short reviews: the common ground of the pre-training text and of
// the instruction rows. Never knows a task.

import type { Random } from './random.js'
import {
  type Activity,
  ENGLISH,
  GERMAN,
  type Language,
  type ReviewDomain,
  type Split,
  type Thing,
} from './words.js'

export type LanguageName = 'de' | 'en'
export const LANGUAGES: Record<LanguageName, Language> = { de: GERMAN, en: ENGLISH }

/** Whether words that no training row has may be drawn ("any"), or only those ("train", "heldOut"). */
export type Vocabulary = 'train' | 'heldOut' | 'any'

export function wordsOf(split: Split, vocabulary: Vocabulary): readonly string[] {
  return vocabulary === 'any' ? [...split.train, ...split.heldOut] : split[vocabulary]
}

/** One event: what a sentence says and a question can ask for. */
export interface Event {
  language: LanguageName
  name: string
  place: string
  thing: Thing
  day: string
  activity: Activity
}

export function drawEvent(random: Random, language: LanguageName, vocabulary: Vocabulary): Event {
  const lexicon = LANGUAGES[language]
  return {
    language,
    name: random.pick(wordsOf(lexicon.names, vocabulary)),
    place: random.pick(wordsOf(lexicon.places, vocabulary)),
    thing: random.pick(lexicon.things),
    day: random.pick(lexicon.days),
    activity: random.pick(lexicon.activities),
  }
}

/** The event as one sentence, in one of several word orders. */
export function eventSentence(
  random: Random,
  { language, name, place, thing, day, activity }: Event,
): string {
  const { object } = thing
  const { past } = activity
  return random.pick(
    language === 'de'
      ? [
          `${name} ${past} am ${day} in ${place} ${object}.`,
          `Am ${day} ${past} ${name} in ${place} ${object}.`,
          `In ${place} ${past} ${name} am ${day} ${object}.`,
        ]
      : [
          `${name} ${past} ${object} in ${place} on ${day}.`,
          `On ${day} ${name} ${past} ${object} in ${place}.`,
          `In ${place} ${name} ${past} ${object} on ${day}.`,
        ],
  )
}

export interface Exchange {
  question: string
  /** As it stands in the sentence. */
  answer: string
}

/** A question for one part of the event: who, what, where or when. */
export function askAbout(random: Random, { language, name, place, thing, day, activity }: Event): Exchange {
  const { past, asked } = activity
  const { object } = thing
  return random.pick(
    language === 'de'
      ? [
          { question: `Wer ${past} ${object}?`, answer: name },
          { question: `Was ${past} ${name}?`, answer: object },
          { question: `Wo ${past} ${name} ${object}?`, answer: `in ${place}` },
          { question: `Wann ${past} ${name} ${object}?`, answer: `am ${day}` },
        ]
      : [
          { question: `Who ${past} ${object}?`, answer: name },
          { question: `What did ${name} ${asked}?`, answer: object },
          { question: `Where did ${name} ${asked} ${object}?`, answer: `in ${place}` },
          { question: `When did ${name} ${asked} ${object}?`, answer: `on ${day}` },
        ],
  )
}

/** A sentence that names a person and a place, of another kind than events. */
export function meetingSentence(random: Random, language: LanguageName, name: string, place: string): string {
  return random.pick(
    language === 'de'
      ? [
          `Gestern traf ich ${name} am Bahnhof in ${place}.`,
          `Seit einem Jahr wohnt ${name} in ${place}.`,
          `${name} fährt morgen mit dem Zug nach ${place}.`,
          `Heute arbeitet ${name} in ${place}.`,
          `Ein Brief aus ${place} kam für ${name} an.`,
          `Der Zug nach ${place} fuhr ohne ${name} ab.`,
        ]
      : [
          `Yesterday I met ${name} at the station in ${place}.`,
          `For a year ${name} has lived in ${place}.`,
          `${name} takes the train to ${place} tomorrow.`,
          `My friend ${name} works in ${place}.`,
          `A letter from ${place} came for ${name}.`,
          `The train to ${place} left without ${name}.`,
        ],
  )
}

export type Polarity = 'good' | 'bad'

/** What a row calls a polarity. */
export const LABELS: Record<LanguageName, Record<Polarity, string>> = {
  de: { good: 'positiv', bad: 'negativ' },
  en: { good: 'positive', bad: 'negative' },
}

/** Which words a review uses: the combination that decides to which rows it belongs. */
export interface Opinion {
  language: LanguageName
  polarity: Polarity
  domain: ReviewDomain
  subject: string
  /** One or two. */
  adjectives: readonly string[]
}

export function drawOpinion(
  random: Random,
  language: LanguageName,
  polarity: Polarity,
  vocabulary: Vocabulary,
): Opinion {
  const domain = random.pick(LANGUAGES[language].reviews)
  const adjectives = random.shuffle([...wordsOf(domain[polarity], vocabulary)]).slice(0, 1 + random.below(2))
  return { language, polarity, domain, subject: random.pick(domain.subjects), adjectives }
}

const lower = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1)

/** The opinion as one sentence: two adjectives, or one, plain or with an intensifier. */
export function opinionSentence(random: Random, { language, subject, adjectives }: Opinion): string {
  if (language === 'de') {
    const what =
      adjectives.length > 1
        ? adjectives.join(' und ')
        : random.pick(['', 'sehr ', 'wirklich ', 'so ']) + adjectives
    return random.pick([
      `${subject} war ${what}.`,
      `Leute, ${lower(subject)} war ${what}.`,
      `Ich fand, ${lower(subject)} war ${what}.`,
    ])
  }
  const what =
    adjectives.length > 1
      ? adjectives.join(' and ')
      : random.pick(['', 'very ', 'really ', 'so ']) + adjectives
  return random.pick([
    `${subject} was ${what}.`,
    `Well, ${lower(subject)} was ${what}.`,
    `I think ${lower(subject)} was ${what}.`,
  ])
}
