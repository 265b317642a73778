import type { Reader, Writer } from './codec.js'
import { HASH_BYTES, MAX_CORES, MAX_PACK_ITEMS, MAX_PATCHES } from './limits.js'

/** Where an item (a chunk or a page) is: a core of the core table, a block of it, the item's ordinal in that pack. */
export interface Place {
  core: number
  block: number
  ordinal: number
}

/** Pages of a chunk that a newer chunk replaces: bit n of `mask` is the n-th 4 KiB; the patch holds just those, in order. */
export interface Patch {
  mask: number
  id: Buffer
}

/**
 * What one 64 KiB range of a file is. `holes` masks the 4 KiB pages that are holes in the file
 * (and zero in the chunk). A chunk's id is of all its bytes, holes included.
 */
export type Entry =
  | { kind: 'hole' }
  | { kind: 'zero'; holes: number }
  | { kind: 'chunk'; id: Buffer; holes: number }
  | { kind: 'patched'; base: Buffer; patches: Patch[] }

const HOLE = 0
const ZERO = 1
const CHUNK = 2
const PATCHED = 3
const ZERO_WITH_HOLES = 4
const CHUNK_WITH_HOLES = 5

export function writeEntry(writer: Writer, entry: Entry): void {
  switch (entry.kind) {
    case 'hole':
      writer.u8(HOLE)
      return
    case 'zero':
      if (entry.holes === 0) writer.u8(ZERO)
      else writer.u8(ZERO_WITH_HOLES).u16(entry.holes)
      return
    case 'chunk':
      if (entry.holes === 0) writer.u8(CHUNK)
      else writer.u8(CHUNK_WITH_HOLES).u16(entry.holes)
      writer.fixed(entry.id, HASH_BYTES)
      return
    case 'patched':
      if (entry.patches.length === 0) throw new RangeError('a patched chunk without a patch')
      writer.u8(PATCHED).fixed(entry.base, HASH_BYTES).u8(entry.patches.length)
      for (const patch of entry.patches) writer.u16(patch.mask).fixed(patch.id, HASH_BYTES)
  }
}

export function readEntry(reader: Reader): Entry {
  const kind = reader.u8()
  switch (kind) {
    case HOLE:
      return { kind: 'hole' }
    case ZERO:
      return { kind: 'zero', holes: 0 }
    case ZERO_WITH_HOLES:
      return { kind: 'zero', holes: readMask(reader) }
    case CHUNK:
      return { kind: 'chunk', holes: 0, id: reader.fixed(HASH_BYTES) }
    case CHUNK_WITH_HOLES: {
      const holes = readMask(reader)
      return { kind: 'chunk', holes, id: reader.fixed(HASH_BYTES) }
    }
    case PATCHED: {
      const base = reader.fixed(HASH_BYTES)
      const count = reader.u8()
      if (count < 1 || count > MAX_PATCHES) reader.fail(`${count} patches`)
      const patches: Patch[] = []
      for (let i = 0; i < count; i++) {
        patches.push({ mask: readMask(reader), id: reader.fixed(HASH_BYTES) })
      }
      return { kind: 'patched', base, patches }
    }
    default:
      return reader.fail(`entry kind ${kind}`)
  }
}

/** The ids an entry needs to be read, in the order its places have. */
export function entryIds(entry: Entry): Buffer[] {
  if (entry.kind === 'chunk') return [entry.id]
  if (entry.kind === 'patched') return [entry.base, ...entry.patches.map((patch) => patch.id)]
  return []
}

export function writePlace(writer: Writer, place: Place): void {
  writer.varint(place.core).varint(place.block).varint(place.ordinal)
}

export function readPlace(reader: Reader): Place {
  return {
    core: reader.varint(MAX_CORES - 1),
    block: reader.varint(2 ** 40),
    ordinal: reader.varint(MAX_PACK_ITEMS - 1)
  }
}

/** Of 4 KiB pages of a chunk, at least one. */
export function readMask(reader: Reader): number {
  const mask = reader.u16()
  if (mask === 0) reader.fail('an empty mask')
  return mask
}
