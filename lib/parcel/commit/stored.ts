import type { Place } from '../../format/entry.js'
import type { FileEntry } from '../../format/file-table.js'
import type { FileStamp } from './file-stamps.js'

/** A line of a new version's file table, with what this host alone keeps of it; null: it is left out. */
export type Stored = {
  entry: FileEntry
  place: Place | null | Promise<Place | null>
  stamp: FileStamp | null
} | null
