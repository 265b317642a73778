import type { Entry, Place } from '../../lib/format/entry.js'
import { chunkCount, CHUNK_SIZE } from '../../lib/format/limits.js'
import type { ItemSource } from '../../lib/image/items.js'
import { leaves } from '../../lib/image/tree-reader.js'
import { TreeWriter } from '../../lib/image/tree-writer.js'
import type { Stream } from '../../lib/log/pack-writer.js'

/** Items in memory, each once; block n holds item n. `shift` makes all places other ones. */
export class PageStore implements ItemSource {
  readonly items: Buffer[] = []
  readonly #known = new Map<string, Place>()
  readonly #shift: number
  /** Items that were not here before. */
  added = { ids: 0, places: 0, disk: 0, memory: 0, working: 0, table: 0 }

  constructor({ shift = 0 } = {}) {
    this.#shift = shift
  }

  async add(stream: Stream, id: Buffer, bytes: Buffer): Promise<Place> {
    const name = id.toString('hex')
    const known = this.#known.get(name)
    if (known !== undefined) return known
    const block = this.items.push(Buffer.from(bytes)) - 1 + this.#shift
    const place = { core: this.#shift % 7, block, ordinal: this.#shift % 11 }
    this.#known.set(name, place)
    this.added[stream]++
    return place
  }

  async read({ block }: Place): Promise<Buffer> {
    const item = this.items[block - this.#shift]
    if (item === undefined) throw new Error(`no item ${block}`)
    return item
  }
}

export interface Placed {
  entry: Entry
  places: Place[]
}

export interface Stored {
  size: number
  root: Buffer | null
  place: Place | null
}

/** Stores a file of these entries. */
export async function store(
  pages: PageStore,
  entries: readonly Placed[],
  size = entries.length * CHUNK_SIZE
): Promise<Stored> {
  const writer = new TreeWriter(pages)
  for (const { entry, places } of entries) {
    if (entry.kind === 'hole') writer.pushHoles(1)
    else writer.push(entry, places)
  }
  const { root, place } = writer.end()
  return { size, root, place: await place }
}

/** All entries of a file, runs without a page as holes. */
export async function load(source: ItemSource, tree: Stored): Promise<Placed[]> {
  const all: Placed[] = []
  for await (const { first, count, entries } of leaves(source, tree)) {
    if (first !== all.length) throw new Error(`a leaf begins at ${first}, not ${all.length}`)
    const holes = (): Placed[] =>
      Array.from({ length: count }, () => ({ entry: { kind: 'hole' }, places: [] }))
    for (const one of entries ?? holes()) all.push(one)
  }
  if (all.length !== chunkCount(tree.size)) throw new Error(`${all.length} entries`)
  return all
}
