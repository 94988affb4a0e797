// The text that the tiny model is pre-trained on: little stories and reviews in German and English.
//
// It teaches words, word order, that a text comes back to what it named, which opinions go together, and how people
// answer each other. It never shows the template, an instruction or a label, so that the instruction rows are new to
// the model.

import type { Random } from './random.js'
import {
  askAbout,
  drawEvent,
  drawOpinion,
  type Event,
  eventSentence,
  LABELS,
  LANGUAGES,
  type LanguageName,
  meetingSentence,
  opinionSentence,
  wordsOf,
} from './sentences.js'

/** Sentences that take up an event again, each with one of its parts. */
function echoes(random: Random, { language, name, place, thing, day, activity }: Event): string[] {
  const lines =
    language === 'de'
      ? [
          `${name} freute sich den ganzen ${day}.`,
          `${thing.subject} gehört ${name}.`,
          `${place} ist schön, sagt ${name}.`,
          `${day} war ein langer Tag in ${place}.`,
          `Nur ${name} ${activity.past} ${thing.object}.`,
          `${thing.subject} ist aus ${place}.`,
          `Ja, ${thing.object} ${activity.past} ${name} in ${place}.`,
          `${name} war also am ${day} in ${place}.`,
        ]
      : [
          `${name} was happy all ${day}.`,
          `${thing.subject} belongs to ${name}.`,
          `${place} is beautiful, says ${name}.`,
          `${day} was a long day in ${place}.`,
          `Only ${name} ${activity.past} ${thing.object}.`,
          `${thing.subject} is from ${place}.`,
          `Yes, ${name} did ${activity.asked} ${thing.object} in ${place}.`,
          `${name} was in ${place} on ${day}, then.`,
        ]
  return random.shuffle(lines).slice(0, 4)
}

function story(random: Random, language: LanguageName): string[] {
  const event = drawEvent(random, language, 'any')
  return [eventSentence(random, event), ...echoes(random, event)]
}

/** Somebody asks and is told, as people talk. The rows' bare answers don't occur. */
function talk(random: Random, language: LanguageName): string[] {
  const event = drawEvent(random, language, 'any')
  const exchanges = Array.from({ length: 2 }, () => askAbout(random, event))
  const told = language === 'de' ? ['Ich glaube,', 'Natürlich'] : ['I think', 'Surely']
  return [
    eventSentence(random, event),
    ...exchanges.map(({ question, answer }) => `${question} ${random.pick(told)} ${answer}.`),
  ]
}

function visit(random: Random, language: LanguageName): string[] {
  const { names, places } = LANGUAGES[language]
  const [name, place] = [random.pick(wordsOf(names, 'any')), random.pick(wordsOf(places, 'any'))]
  const lines =
    language === 'de'
      ? [
          `${name} mag ${place}.`,
          `${place} gefällt ${name}.`,
          `${name} kennt in ${place} jeden.`,
          `${place} kennt ${name}.`,
        ]
      : [
          `${name} likes ${place}.`,
          `${place} pleases ${name}.`,
          `${name} knows all of ${place}.`,
          `${place} knows ${name}.`,
        ]
  return [meetingSentence(random, language, name, place), ...random.shuffle(lines).slice(0, 3)]
}

/** Opinions of one polarity after each other, and two closings that fit. */
function review(random: Random, language: LanguageName): string[] {
  const polarity = random.pick(['good', 'bad'] as const)
  const { closings } = LANGUAGES[language]
  const opinions = Array.from({ length: 1 + random.below(3) }, () =>
    opinionSentence(random, drawOpinion(random, language, polarity, 'any')),
  )
  return [...opinions, ...random.shuffle([...closings[polarity]]).slice(0, 2)]
}

/**
 * A row of names, places, days and things that is said twice, in a line or in a column: the model learns to come back
 * to what it read, also where a word is another token at the start of a line. The labels stand among them because an
 * adapter can't teach the head a word that it has never seen; nothing ties them to reviews.
 */
function rollCall(random: Random, language: LanguageName): string[] {
  const { names, places, days, things } = LANGUAGES[language]
  const objects = things.map(({ object }) => object)
  const all = random.shuffle([
    ...wordsOf(names, 'any'),
    ...wordsOf(places, 'any'),
    ...days,
    ...objects,
    ...Object.values(LABELS[language]),
  ])
  const called = all.slice(0, 6 + random.below(6))
  const again = language === 'de' ? 'Noch einmal:' : 'Once more:'
  const inColumn = random.chance(1, 2)
  return [
    `${called.join(', ')}.`,
    inColumn ? `${again}\n${called.join('\n')}` : `${again} ${called.join(', ')}.`,
  ]
}

/** A text of one language: several short pieces, each on lines of its own. About 100 tokens. */
export function pretrainingText(random: Random): string {
  const language = random.pick(['de', 'en'] as const)
  const pieces = Array.from({ length: 3 }, () =>
    random.pick([story, talk, visit, review, review, rollCall, rollCall])(random, language),
  )
  return pieces.map((sentences) => joinSentences(random, sentences)).join('\n')
}

/** Sentences of a piece are joined by a space or a line break, so that words are seen at both places. */
function joinSentences(random: Random, sentences: string[]): string {
  return sentences.reduce((text, sentence) => text + (random.chance(1, 2) ? ' ' : '\n') + sentence)
}
