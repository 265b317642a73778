import type { Place } from '../../format/entry.js'
import type { FileRole } from '../../format/file-table.js'
import type { Places, Trace } from '../../format/meta-record.js'
import type { Version } from '../../format/version.js'
import { contents, type Content } from '../../image/contents.js'
import type { ItemSource } from '../../image/items.js'
import { treeItems } from '../../image/tree-items.js'

export type BlockAt = Pick<Place, 'core' | 'block'>

export interface BlocksOptions {
  version: Version
  places: Places
  /** What its items are read from; waits for what is not here. */
  source: ItemSource
  /** What a resume wants first; null when nobody knows. */
  trace: Trace | null
  /** Whether a file is wanted. */
  isWanted: (content: Content) => boolean
  /** Whether the blocks below a page are not known yet. */
  isNew: (page: Place) => boolean
}

/** Files of a version by how soon a resume wants them: its memory and what is small, then disks, then all others. */
const RANKS: readonly (readonly FileRole[])[] = [
  ['memory', 'device', 'nvram', 'config', 'log'],
  ['disk'],
  ['file']
]

/**
 * The blocks of a version in the order in which they are useful: what a resume wants first, then its memory,
 * then its disks. Each may come more than once, but for what is below a page. Throws INTEGRITY, and what
 * `source` throws.
 */
export async function* blocksOf(options: BlocksOptions): AsyncGenerator<BlockAt[]> {
  const { version, places, trace, isWanted, isNew } = options
  if (trace !== null) yield trace.blocks
  const read: BlockAt[] = []
  const source: ItemSource = {
    read(place, id) {
      read.push(place)
      return options.source.read(place, id)
    }
  }
  const items = async function* (tree: Parameters<typeof treeItems>[1]): AsyncGenerator<BlockAt[]> {
    for await (const leaf of treeItems(source, tree, isNew)) {
      yield [...read.splice(0), ...leaf.map(({ place }) => place)]
    }
    yield read.splice(0)
  }
  yield* items({ ...version.table, place: places.table })
  yield* items(places.roots)
  for (const roles of RANKS) {
    if (version.driver === 'folder' && !roles.includes('file')) continue
    // Their table is read again for each: it may be larger than memory.
    for await (const content of contents(source, version, places)) {
      const { entry, place } = content
      if (entry.type !== 'file' || !roles.includes(entry.role) || !isWanted(content)) continue
      yield* items({ ...entry, place })
    }
  }
}
