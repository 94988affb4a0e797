// Where a text stops being JSON. Runs only after `JSON.parse` has refused the text, because V8 names a position
// in some of its messages and not in others. Never builds a value.

/** The first place that is not JSON: offset in UTF-16 units, and what stands there. */
export interface JsonFault {
  offset: number
  expected: string
}

/** Line and column of an offset, both from 1. */
export const lineAndColumn = (text: string, offset: number): { line: number; column: number } => {
  const before = text.slice(0, offset)
  const line = before.split('\n').length
  return { line, column: offset - before.lastIndexOf('\n') }
}

const space = /[ \t\n\r]*/y
const number = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
const literal = /true|false|null/y
const escapeSequence = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y

/** Below it are the control characters, which JSON forbids inside a string. */
const firstPrintable = 0x20

/** What may come next. */
type State = 'value' | 'value or ]' | 'key' | 'key or }' | ':' | ', or ]' | ', or }' | 'end of text'

/** The first fault of `text`, or null where it is JSON. Nesting costs memory in the heap, never on the call stack. */
export const findJsonFault = (text: string): JsonFault | null => {
  const open: ('[' | '{')[] = []
  let offset = 0
  let state: State = 'value'
  const skip = (pattern: RegExp): boolean => {
    pattern.lastIndex = offset
    const found = pattern.exec(text)
    if (found !== null) offset = pattern.lastIndex
    return found !== null
  }
  /** Past a string's closing quote; false at its first fault. A loop: a string may be longer than a pattern can be. */
  const skipString = (): boolean => {
    for (offset += 1; offset < text.length; ) {
      if (text[offset] === '"') {
        offset += 1
        return true
      }
      if (text[offset] === '\\') {
        if (!skip(escapeSequence)) return false
      } else if (text.charCodeAt(offset) < firstPrintable) return false
      else offset += 1
    }
    return false
  }
  const afterValue = (): State => {
    const inside = open.at(-1)
    if (inside === undefined) return 'end of text'
    return inside === '[' ? ', or ]' : ', or }'
  }
  for (;;) {
    skip(space)
    const char = text[offset]
    if (char === undefined) return state === 'end of text' ? null : { offset, expected: state }
    if (state === 'end of text') return { offset, expected: state }
    const closes = (state.endsWith(']') && char === ']') || (state.endsWith('}') && char === '}')
    if (closes) {
      open.pop()
      offset += 1
      state = afterValue()
    } else if (state === ':') {
      if (char !== ':') return { offset, expected: state }
      offset += 1
      state = 'value'
    } else if (state === ', or ]' || state === ', or }') {
      if (char !== ',') return { offset, expected: state }
      offset += 1
      state = state === ', or ]' ? 'value' : 'key'
    } else if (state === 'key' || state === 'key or }') {
      if (char !== '"') return { offset, expected: state }
      if (!skipString()) return { offset, expected: 'the rest of a string' }
      state = ':'
    } else if (char === '[' || char === '{') {
      open.push(char)
      offset += 1
      state = char === '[' ? 'value or ]' : 'key or }'
    } else if (char === '"') {
      if (!skipString()) return { offset, expected: 'the rest of a string' }
      state = afterValue()
    } else {
      if (!skip(number) && !skip(literal)) return { offset, expected: state }
      state = afterValue()
    }
  }
}
