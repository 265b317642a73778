import { Reader, Writer } from './codec.js'
import { readEntry, readPlace, writeEntry, writePlace, type Entry, type Place } from './entry.js'
import { HASH_BYTES, MAX_PATCHES, PAGE_FANOUT } from './limits.js'

/**
 * A page of an id tree: a hash tree over a file's entries. `level` 0 is a leaf. An inner page
 * names its children by hash; null is a child whose whole range is holes and that has no page.
 */
export type IdPage =
  { level: 0; entries: Entry[] } | { level: 1 | 2 | 3 | 4 | 5; children: (Buffer | null)[] }

/**
 * A page of a place tree, of the same shape as the id tree: where the id page itself is, and where
 * the items of each entry (leaf) or the place page of each child (inner) are. Never hashed into a
 * version: it may be replaced when items move.
 */
export type PlacePage =
  | { level: 0; idPage: Place; items: Place[][] }
  | { level: 1 | 2 | 3 | 4 | 5; idPage: Place; children: (Place | null)[] }

const NO_CHILD = Buffer.alloc(HASH_BYTES)

export function encodeIdPage(page: IdPage): Buffer {
  const count = page.level === 0 ? page.entries.length : page.children.length
  const writer = new Writer(count * (HASH_BYTES + 1) + 8).u8(page.level)
  if (page.level === 0) writer.list(page.entries, (entry) => writeEntry(writer, entry))
  else writer.list(page.children, (child) => writer.fixed(child ?? NO_CHILD, HASH_BYTES))
  return Buffer.from(writer.bytes())
}

export function decodeIdPage(bytes: Uint8Array): IdPage {
  const reader = new Reader(bytes, 'manifest page')
  const level = readLevel(reader)
  const page: IdPage =
    level === 0
      ? { level, entries: readMany(reader, () => readEntry(reader)) }
      : { level, children: readMany(reader, () => readChild(reader)) }
  reader.end()
  return page
}

export function encodePlacePage(page: PlacePage): Buffer {
  const count = page.level === 0 ? page.items.length : page.children.length
  const writer = new Writer(count * 8 + 16).u8(page.level)
  writePlace(writer, page.idPage)
  if (page.level === 0) {
    writer.list(page.items, (places) => {
      writer.u8(places.length)
      for (const place of places) writePlace(writer, place)
    })
  } else {
    writer.list(page.children, (child) => {
      writer.u8(child === null ? 0 : 1)
      if (child !== null) writePlace(writer, child)
    })
  }
  return Buffer.from(writer.bytes())
}

export function decodePlacePage(bytes: Uint8Array): PlacePage {
  const reader = new Reader(bytes, 'place page')
  const level = readLevel(reader)
  const idPage = readPlace(reader)
  const readItems = (max: number): Place[] => {
    const count = reader.u8()
    if (count > max) reader.fail(`${count} places for one entry`)
    return Array.from({ length: count }, () => readPlace(reader))
  }
  const page: PlacePage =
    level === 0
      ? { level, idPage, items: readMany(reader, () => readItems(1 + MAX_PATCHES)) }
      : { level, idPage, children: readMany(reader, () => readItems(1)[0] ?? null) }
  reader.end()
  return page
}

function readLevel(reader: Reader): IdPage['level'] {
  const level = reader.u8()
  if (level === 0 || level === 1 || level === 2 || level === 3 || level === 4 || level === 5) {
    return level
  }
  return reader.fail(`page level ${level}`)
}

function readMany<T>(reader: Reader, read: () => T): T[] {
  const items = reader.list(PAGE_FANOUT, read)
  if (items.length === 0) reader.fail('an empty page')
  return items
}

function readChild(reader: Reader): Buffer | null {
  const hash = reader.fixed(HASH_BYTES)
  return hash.equals(NO_CHILD) ? null : hash
}
