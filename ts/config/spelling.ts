// Spellings of a name that are the same name.

/** Dashes and underscores are the same. */
export const normalise = (name: string): string => name.trim().replaceAll('-', '_')
