import { pageHash } from '../chunk/id.js'
import type { Entry, Place } from '../format/entry.js'
import { PAGE_FANOUT } from '../format/limits.js'
import { encodeIdPage, encodePlacePage, type IdPage } from '../format/page.js'
import type { PageSink } from './items.js'
import { spanOf } from './shape.js'
import type { Subtree } from './tree-reader.js'

type Pending<T> = T | Promise<T>
type InnerLevel = Exclude<IdPage['level'], 0>

interface Inner {
  hashes: (Buffer | null)[]
  places: Pending<Place | null>[]
}

/** The top of a file's two trees; both null for a file that has no page. */
export interface Tree {
  root: Buffer | null
  place: Promise<Place | null>
}

/**
 * Builds the id tree and the place tree of one file from its entries in order. Hashes are known at
 * once; places trail behind, because a place is known only when its pack is closed. A page that
 * the sink has already is not written again, so unchanged ranges cost nothing.
 */
export class TreeWriter {
  readonly #sink: PageSink
  #entries: Entry[] = []
  #items: Pending<Place>[][] = []
  readonly #levels: Inner[] = []
  #count = 0

  constructor(sink: PageSink) {
    this.#sink = sink
  }

  /** The next entry, and where each of its items is, in the order of `entryIds`. */
  push(entry: Entry, places: Pending<Place>[]): void {
    this.#entries.push(entry)
    this.#items.push(places)
    this.#count++
    if (this.#entries.length === PAGE_FANOUT) this.#closeLeaf()
  }

  /** Entries so far. */
  get count(): number {
    return this.#count
  }

  /** All that stands below a page of `level` in another tree of the file: `count` entries. */
  pushSubtree(level: number, count: number, { hash, place }: Subtree): void {
    if (this.#count % spanOf(level) !== 0) throw new RangeError('a page would begin inside another')
    this.#push(level + 1, hash, place)
    this.#count += count
  }

  /** A run of holes; whole empty leaves are skipped at once. */
  pushHoles(count: number): void {
    let left = count
    while (left > 0) {
      if (this.#entries.length === 0 && left >= PAGE_FANOUT) {
        this.#push(1, null, null)
        this.#count += PAGE_FANOUT
        left -= PAGE_FANOUT
      } else {
        this.push({ kind: 'hole' }, [])
        left--
      }
    }
  }

  end(): Tree {
    if (this.#count === 0) return { root: null, place: Promise.resolve(null) }
    if (this.#entries.length > 0) this.#closeLeaf()
    for (let level = 1; ; level++) {
      const inner = this.#inner(level)
      if (inner.hashes.length === 1 && this.#levels[level] === undefined) {
        const [root] = inner.hashes
        const [place] = inner.places
        return { root: root ?? null, place: Promise.resolve(place ?? null) }
      }
      if (inner.hashes.length > 0) this.#closeInner(level)
    }
  }

  #closeLeaf(): void {
    const entries = this.#entries
    const items = this.#items
    this.#entries = []
    this.#items = []
    if (entries.every((entry) => entry.kind === 'hole')) {
      this.#push(1, null, null)
      return
    }
    const bytes = encodeIdPage({ level: 0, entries })
    const hash = pageHash(bytes)
    const place = async (): Promise<Place> => {
      const idPage = await this.#sink.add('ids', hash, bytes)
      const known = await settled(items)
      return this.#addPlaces(encodePlacePage({ level: 0, idPage, items: known }))
    }
    this.#push(1, hash, start(place))
  }

  #closeInner(level: number): void {
    const { hashes, places } = this.#inner(level)
    this.#levels[level - 1] = { hashes: [], places: [] }
    if (hashes.every((hash) => hash === null)) {
      this.#push(level + 1, null, null)
      return
    }
    const height = asLevel(level)
    const bytes = encodeIdPage({ level: height, children: hashes })
    const hash = pageHash(bytes)
    const place = async (): Promise<Place> => {
      const idPage = await this.#sink.add('ids', hash, bytes)
      const children = await Promise.all(places)
      return this.#addPlaces(encodePlacePage({ level: height, idPage, children }))
    }
    this.#push(level + 1, hash, start(place))
  }

  #push(level: number, hash: Buffer | null, place: Pending<Place | null>): void {
    const inner = this.#inner(level)
    inner.hashes.push(hash)
    inner.places.push(place)
    if (inner.hashes.length === PAGE_FANOUT) this.#closeInner(level)
  }

  #inner(level: number): Inner {
    return (this.#levels[level - 1] ??= { hashes: [], places: [] })
  }

  #addPlaces(bytes: Buffer): Promise<Place> {
    return this.#sink.add('places', pageHash(bytes), bytes)
  }
}

/** Most places are known at once: then there is nothing to wait for. */
async function settled(items: Pending<Place>[][]): Promise<Place[][]> {
  if (items.every((places) => places.every(isKnown))) return items.map((all) => all.filter(isKnown))
  return Promise.all(items.map((places) => Promise.all(places)))
}

function isKnown(place: Pending<Place>): place is Place {
  return !(place instanceof Promise)
}

/** Starts the work now; whoever awaits the result later sees its failure. */
function start(work: () => Promise<Place>): Promise<Place> {
  const result = work()
  result.catch(() => {})
  return result
}

function asLevel(level: number): InnerLevel {
  if (level === 1 || level === 2 || level === 3 || level === 4 || level === 5) return level
  throw new RangeError(`a tree of height ${level}`)
}
