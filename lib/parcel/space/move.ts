import { chunkId, isNamed, pageHash } from '../../chunk/id.js'
import { ParcelError } from '../../errors.js'
import { entryIds, type Place } from '../../format/entry.js'
import { chunkCount, type Chunking } from '../../format/limits.js'
import type { Places, Trace } from '../../format/meta-record.js'
import { decodePack } from '../../format/pack.js'
import { encodeIdPage, encodePlacePage, type PlacePage } from '../../format/page.js'
import type { CoreHead } from '../../format/version.js'
import { contents } from '../../image/contents.js'
import type { ItemSource } from '../../image/items.js'
import { heightOf, spanOf } from '../../image/shape.js'
import { streamFor } from '../../image/stream-writer.js'
import {
  readInner,
  readLeaf,
  type FileTree,
  type LeafEntry,
  type Subtree
} from '../../image/tree-reader.js'
import { CORE_PREFIX } from '../../log/chunk-index.js'
import { CoreTable } from '../../log/core-table.js'
import type { Log } from '../../log/log.js'
import { PackWriter, type Stream } from '../../log/pack-writer.js'
import type { Work } from '../../progress.js'
import { storeRoots } from '../commit/commit.js'
import { streamOf } from '../commit/roles.js'
import type { ParcelContext } from '../context.js'
import type { Known, Placement } from '../history.js'
import type { LogSet } from '../logs/log-set.js'
import { blockName, traceOf, usedOf } from '../commit/trace.js'
import { packsOf } from '../version-packs.js'

type Pending<T> = T | Promise<T>
/** By the old place of a subtree's place page: where its new one is. */
type Done = Map<string, Pending<Place>>

/** Where a version is after a move. */
export interface MovedVersion {
  places: Places
  trace: Trace | null
  /** Logs besides the new one that hold something of it. */
  others: CoreHead[]
}

export interface MoveOptions {
  set: LogSet
  context: ParcelContext
  /** Where what is needed goes: nobody else appends to it. */
  to: Log
  /** Logs that are to be without anything that is needed, in hex, each from a block on. */
  from: ReadonlyMap<string, number>
  work: Work
  /** Called with the bytes of each item that was copied. */
  onMoved: (bytes: number) => void
}

/**
 * Copies what versions need of some logs into another one, each item once, and makes new place trees
 * that lead there; the versions stay what they are. Called for one version after the other: what
 * several have in common is looked at once.
 */
export class Move {
  readonly #options: MoveOptions
  /** Tables of cores of which one goes on from the other number theirs alike. */
  readonly #tables: { keys: readonly Buffer[]; done: Done }[] = []
  /** Blocks of the new log in which only is what a resume wants first. */
  readonly #packed = new Set<number>()

  constructor(options: MoveOptions) {
    this.#options = options
  }

  /** So that versions with a shorter table share with it what they have in common. */
  expect(placements: readonly Placement[]): void {
    const tables = placements.map(({ places }) => places.cores)
    for (const keys of tables.toSorted((a, b) => b.length - a.length)) this.#table(keys)
  }

  /** Durable when it settles. Throws UNREACHABLE for a version that is only partly here, INTEGRITY. */
  async version({ id, version }: Known, { places, heads }: Placement): Promise<MovedVersion> {
    const { set, work, from, to, context } = this.#options
    const { keys, done } = this.#table(places.cores)
    const others: CoreHead[] = []
    for (const head of heads) {
      if (head.key.equals(to.key)) continue
      const start = from.get(head.key.toString('hex')) ?? Infinity
      const log = set.get(head.key)
      if (head.length <= start) others.push(head)
      else if (start > 0 && log !== null) others.push(await log.head(start))
    }
    const cores = new CoreTable(keys)
    const writer = new PackWriter({
      log: to,
      pool: context.pool,
      parcel: set.parcel,
      index: context.index,
      cores,
      // Nowhere else: what one version refers to another may not.
      mayRefer: (core, block) => core.equals(to.key.subarray(0, CORE_PREFIX)) && block < to.length,
      compress: true,
      flush: () => context.store.flush(),
      requireRoom: (bytes) => context.store.requireRoom(bytes)
    })
    const source = packsOf(new CoreTable(places.cores), set)
    const isFrom = ({ core, block }: Pick<Place, 'core' | 'block'>): boolean =>
      block >= (from.get(places.cores[core]?.toString('hex') ?? '') ?? Infinity)
    const trace = set.history.trace(id)
    const mover = new TreeMover({ ...this.#options, writer, source, isFrom, done })
    try {
      if (trace !== null) await this.#moveWorkingSet(trace, places, { writer, mover, isFrom })
      const tops: Pending<Place | null>[] = []
      for await (const { entry, place } of contents(source, version, places)) {
        work.signal.throwIfAborted()
        if (entry.type !== 'file') continue
        tops.push((await mover.file({ ...entry, place }, streamOf(entry.role))).place)
        await writer.ready()
      }
      const roots = await storeRoots(writer, await writer.settle(Promise.all(tops)))
      const { chunking, table } = version
      const top = await mover.file(
        { ...table, chunking, place: places.table },
        streamFor(table.size)
      )
      const tablePlace = await writer.settle(Promise.resolve(top.place))
      const moved = { version: id, cores: [...cores.keys], table: tablePlace, roots }
      return {
        places: moved,
        others,
        trace: trace === null ? null : await this.#traceOf(trace, version, moved, writer.ownCore)
      }
    } finally {
      await writer.end().catch(() => {})
      await writer.ready()
    }
  }

  #table(cores: readonly Buffer[]): { keys: readonly Buffer[]; done: Done } {
    const known = this.#tables.find(({ keys }) => cores.every((key, i) => keys[i]?.equals(key)))
    if (known !== undefined) return known
    const made = { keys: cores, done: new Map() }
    this.#tables.push(made)
    return made
  }

  /** What was packed for a resume stays together, in its order. */
  async #moveWorkingSet(
    { blocks }: Trace,
    { cores }: Places,
    {
      writer,
      mover,
      isFrom
    }: { writer: PackWriter; mover: TreeMover; isFrom: (at: TraceAt) => boolean }
  ): Promise<void> {
    const before = writer.working.length
    for (const at of blocks) {
      const key = cores[at.core]
      if (!at.isPacked || key === undefined || !isFrom(at)) continue
      const log = this.#options.set.get(key)
      if (log?.has(at.block) !== true) continue
      const { items } = decodePack(await log.read(at.block))
      const places = items.map((_, ordinal) => ({ core: at.core, block: at.block, ordinal }))
      const ids = items.map(({ id }) => id)
      void (await mover.items(ids, places, 'working', null))
      writer.closePacks()
      await writer.ready()
    }
    for (const block of writer.working.slice(before)) this.#packed.add(block)
  }

  async #traceOf(
    before: Trace,
    version: Known['version'],
    places: Places,
    own: number
  ): Promise<Trace> {
    const { set } = this.#options
    const cores = new CoreTable(places.cores)
    const trace = await traceOf({
      version,
      places,
      source: packsOf(cores, set),
      used: usedOf(before),
      packed: new Set([...this.#packed].map((block) => blockName({ core: own, block }))),
      async sizeOf({ core, block }) {
        const log = set.get(cores.key(core))
        return log?.has(block) === true ? (await log.read(block)).byteLength : 0
      },
      isNeeded: ({ entry }) =>
        entry.type === 'file' && entry.role !== 'memory' && entry.role !== 'disk'
    })
    return { ...trace, version: places.version }
  }
}

type TraceAt = Pick<Place, 'core' | 'block'>

interface TreeMoverOptions extends MoveOptions {
  writer: PackWriter
  source: ItemSource
  isFrom: (place: Place) => boolean
  done: Done
}

/** Moves the trees of files of one version. */
class TreeMover {
  readonly #options: TreeMoverOptions

  constructor(options: TreeMoverOptions) {
    this.#options = options
  }

  /** The place of its top place page comes when a pack is closed. */
  async file(
    { size, root, place, chunking }: FileTree,
    stream: Stream
  ): Promise<{ place: Pending<Place | null> }> {
    const count = chunkCount(size)
    if (root === null || count === 0) return { place: null }
    return this.#subtree({ hash: root, place }, heightOf(count), count, { stream, chunking })
  }

  async #subtree(
    subtree: Subtree,
    level: number,
    count: number,
    how: { stream: Stream; chunking: Chunking }
  ): Promise<{ place: Pending<Place | null> }> {
    const { hash, place: old } = subtree
    if (hash === null || old === null) return { place: null }
    const { done, source, work, writer } = this.#options
    const name = `${blockName(old)}/${old.ordinal}`
    const known = done.get(name)
    if (known !== undefined) return { place: known }
    work.signal.throwIfAborted()
    const place =
      level === 0
        ? await this.#leaf(hash, await readLeaf(source, subtree, count), how)
        : await this.#inner(hash, await readInner(source, subtree, level, count), level, count, how)
    place.place.then((found) => done.set(name, found)).catch(() => done.delete(name))
    done.set(name, place.place)
    await writer.ready()
    return place
  }

  async #leaf(
    hash: Buffer,
    entries: LeafEntry[],
    { stream, chunking }: { stream: Stream; chunking: Chunking }
  ): Promise<{ place: Promise<Place> }> {
    const ids = entries.flatMap(({ entry }) => entryIds(entry))
    const flat = await this.items(
      ids,
      entries.flatMap(({ places }) => places),
      stream,
      chunking
    )
    const page = encodeIdPage({ level: 0, entries: entries.map(({ entry }) => entry) })
    return this.#publish(hash, page, async (idPage) => {
      const known = await Promise.all(flat)
      const items = entries.map(({ places }) => known.splice(0, places.length))
      return { level: 0, idPage, items }
    })
  }

  async #inner(
    hash: Buffer,
    children: Subtree[],
    level: number,
    count: number,
    how: { stream: Stream; chunking: Chunking }
  ): Promise<{ place: Promise<Place> }> {
    const span = spanOf(level - 1)
    const places: Pending<Place | null>[] = []
    for (const [i, child] of children.entries()) {
      const left = Math.min(span, count - i * span)
      places.push((await this.#subtree(child, level - 1, left, how)).place)
    }
    const height = asLevel(level)
    const page = encodeIdPage({ level: height, children: children.map((child) => child.hash) })
    return this.#publish(hash, page, async (idPage) => ({
      level: height,
      idPage,
      children: await Promise.all(places)
    }))
  }

  /** Where items are from now on: those of other logs where they were. `chunking` null: of any kind. */
  async items(
    ids: readonly Buffer[],
    places: readonly Place[],
    stream: Stream,
    chunking: Chunking | null
  ): Promise<Pending<Place>[]> {
    const { writer, source, isFrom, onMoved } = this.#options
    if (ids.length !== places.length) throw new ParcelError('INTEGRITY', 'an entry lacks a place')
    const found = await writer.find(ids.map((id, i) => (isMoved(places[i], isFrom) ? id : null)))
    const now: Pending<Place>[] = []
    for (const [i, place] of places.entries()) {
      const id = ids[i]
      const known = isFrom(place) ? found[i] : place
      if (known !== null && known !== undefined) now.push(known)
      else if (id !== undefined) {
        const bytes = await source.read(place, id)
        const isTrue = chunking === null ? isNamed(bytes, id) : chunkId(bytes, chunking).equals(id)
        if (!isTrue) throw new ParcelError('INTEGRITY', 'a chunk does not have its id')
        now.push(writer.put(stream, id, bytes))
        onMoved(bytes.byteLength)
      }
    }
    for (const place of now) if (place instanceof Promise) place.catch(() => {})
    return now
  }

  #publish(
    hash: Buffer,
    page: Buffer,
    placesOf: (idPage: Place) => Promise<PlacePage>
  ): { place: Promise<Place> } {
    const { writer } = this.#options
    const publish = async (): Promise<Place> => {
      if (!pageHash(page).equals(hash))
        throw new ParcelError('INTEGRITY', 'a page has another form')
      const bytes = encodePlacePage(await placesOf(await writer.add('ids', hash, page)))
      return writer.add('places', pageHash(bytes), bytes)
    }
    const place = publish()
    place.catch(() => {})
    return { place }
  }
}

function isMoved(place: Place | undefined, isFrom: (place: Place) => boolean): boolean {
  return place !== undefined && isFrom(place)
}

function asLevel(level: number): Exclude<PlacePage['level'], 0> {
  if (level === 1 || level === 2 || level === 3 || level === 4 || level === 5) return level
  throw new RangeError(`a tree of height ${level}`)
}
