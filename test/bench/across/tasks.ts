import type { Values } from '../metrics.js'

export const FIRST = 'from the start of a suspend until all of it is on the other host'
export const CHANGED = 'the same after the changes'
export const BLOCKS = 'blocks alone: both versions stored before, fetched by a new host'

/** Added to a task's name: it ends when what was sent is a file again. */
export const FILES = ', as files there'

/** What one run prints: by task, and by task and more of the tool's own. */
export type Laps = Record<string, Values>
