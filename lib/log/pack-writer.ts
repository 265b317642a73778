import { setImmediate } from 'node:timers/promises'
import { PACK_ITEMS, SEGMENT_SIZE } from '../chunk/buffers.js'
import type { PackedBlock, Segment, WorkerPool } from '../chunk/worker-pool.js'
import type { Place } from '../format/entry.js'
import { HASH_BYTES } from '../format/limits.js'
import type { PackItem, PackKind } from '../format/pack.js'
import type { ChunkIndex, Location } from './chunk-index.js'
import { CORE_PREFIX } from './chunk-index.js'
import type { CoreTable } from './core-table.js'
import type { Log } from './log.js'

/**
 * What is packed together, and how much of it raw: a demand fault pays for a whole pack, so memory
 * is in smaller ones, and what a resume wants first in ones of its own; place pages are read before id pages and without
 * them, and the table of many files without what is in them.
 */
const SIZES = {
  disk: SEGMENT_SIZE,
  memory: 65_536,
  working: 131_072,
  table: SEGMENT_SIZE,
  ids: 65_536,
  places: 65_536
} as const
export type Stream = keyof typeof SIZES

const BATCH_BYTES = 4 * 1_048_576
/** So much is appended between two syncs. */
const FLUSH_BYTES = 64 * 1_048_576
const FLUSH_ITEMS = 8_192
/** Raw bytes that may be under way behind the caller before it must wait. */
const IN_FLIGHT = 16 * 1_048_576

interface OpenPack {
  kind: PackKind
  items: PackItem[]
  /** All items, one after the other. */
  raw: ArrayBuffer
  bytes: number
  /** Resolved with the block's index as soon as the pack is closed, before it is appended. */
  block: Promise<number>
  setBlock: (block: number) => void
}

interface ClosedPack {
  index: number
  items: PackItem[]
  bytes: number
  block: Promise<PackedBlock>
}

export interface PackWriterOptions {
  log: Log
  pool: WorkerPool
  parcel: Buffer
  index: ChunkIndex
  cores: CoreTable
  /** Whether the version may refer to a block of the core whose key begins with these bytes. */
  mayRefer: (core: Buffer, block: number) => boolean
  compress: boolean
  /** Makes the log durable up to here. */
  flush: () => Promise<void>
  /** Throws DISK_FULL when there is no room for so many bytes more. */
  requireRoom: (bytes: number) => Promise<void>
}

/**
 * Puts items (chunks and manifest pages) into packs and packs into this host's `data` log, each
 * item once. An item that the parcel has already is not written again. Worker threads compress and
 * seal, appends go on behind in order; `ready` is the back pressure.
 */
export class PackWriter {
  readonly #options: PackWriterOptions
  readonly #open = new Map<Stream, OpenPack>()
  /** Items put but not yet in the index. */
  readonly #pending = new Map<string, Place | Promise<Place>>()
  readonly #queue: ClosedPack[] = []
  /** Number of this host's log in the core table. */
  readonly ownCore: number
  #next: number
  #inFlight = 0
  #finding = 0
  #unflushed = 0
  #flushingBytes = 0
  #unindexed: { id: Buffer; location: Location }[] = []
  #draining: Promise<void> | null = null
  #flushing: Promise<void> = Promise.resolve()
  #failure: Error | null = null
  #waiters: (() => void)[] = []
  /** Blocks of the stream `working`. */
  readonly working: number[] = []
  /** Bytes of packs appended, before sealing and padding. */
  stored = 0

  constructor(options: PackWriterOptions) {
    this.#options = options
    this.ownCore = options.cores.number(options.log.key)
    this.#next = options.log.length
  }

  /** Which of the items are here already, and where. Pending ones come as promises. */
  async find(ids: readonly (Buffer | null)[]): Promise<(Place | Promise<Place> | null)[]> {
    const { index, parcel } = this.#options
    this.#finding++
    try {
      // An item may go from pending to the index while we ask: look before and after.
      const asked = ids.filter(isPresent)
      const pending = new Map(asked.map((id) => [name(id), this.#pending.get(name(id))]))
      const found = await index.find(parcel, asked)
      const byName = new Map(asked.map((id, i) => [name(id), found[i] ?? null]))
      return ids.map((id) => {
        if (id === null) return null
        const known = pending.get(name(id)) ?? this.#pending.get(name(id))
        return known ?? this.#place(byName.get(name(id)) ?? null)
      })
    } finally {
      this.#finding--
    }
  }

  /**
   * Waits for something that depends on the places of items put, closing packs early as long as
   * nothing else would.
   */
  async settle<T>(result: Promise<T>): Promise<T> {
    let isSettled = false
    const settled = result.finally(() => (isSettled = true))
    settled.catch(() => {})
    while (!isSettled && this.#failure === null) {
      await setImmediate()
      if (this.#finding === 0) this.closePacks()
    }
    if (this.#failure !== null) throw this.#failure
    return settled
  }

  /** Writes an item that `find` did not know. The place is known as soon as the pack is closed. */
  put(stream: Stream, id: Buffer, bytes: Buffer): Place | Promise<Place> {
    const known = this.#pending.get(name(id))
    if (known !== undefined) return known
    const room = SIZES[stream]
    let pack = this.#open.get(stream)
    if (pack !== undefined && pack.bytes + bytes.byteLength > room) {
      this.#close(stream, pack)
      pack = undefined
    }
    pack ??= this.#begin(stream)
    new Uint8Array(pack.raw).set(bytes, pack.bytes)
    const place = this.#list(pack, id, bytes.byteLength)
    if (pack.bytes >= room || pack.items.length >= PACK_ITEMS) this.#close(stream, pack)
    return place
  }

  /**
   * Writes the chunks of a whole segment, none of which `find` knew: its buffer becomes a pack as
   * it is. null, and nothing done, when that cannot be.
   */
  putSegment(stream: Stream, ids: readonly Buffer[], segment: Segment): Place[] | null {
    const names = new Set(ids.map(name))
    const isPack = SIZES[stream] === SEGMENT_SIZE && segment.bytes.byteLength === SEGMENT_SIZE
    if (!isPack || names.size !== ids.length || this.#failure !== null) return null
    for (const each of names) if (this.#pending.has(each)) return null
    const pack = this.#newPack(stream, segment.take())
    const length = SEGMENT_SIZE / ids.length
    const [core, block] = [this.ownCore, this.#next]
    const places = ids.map((id, ordinal) => {
      const place = { core, block, ordinal }
      pack.items.push({ id, length })
      this.#pending.set(name(id), place)
      return place
    })
    pack.bytes = SEGMENT_SIZE
    this.#send(pack)
    return places
  }

  /** Like `find` then `put`, for one item. */
  async add(stream: Stream, id: Buffer, bytes: Buffer): Promise<Place> {
    const [known] = await this.find([id])
    return known ?? this.put(stream, id, bytes)
  }

  /** Waits while too much is under way. Throws what went wrong behind the caller. */
  async ready(): Promise<void> {
    while (this.#inFlight > IN_FLIGHT && this.#failure === null) {
      await new Promise<void>((resolve) => this.#waiters.push(resolve))
    }
    if (this.#failure !== null) throw this.#failure
  }

  /** Closes every pack that has something in it, so that the places of all items put become known. */
  closePacks(): void {
    for (const [stream, pack] of this.#open) this.#close(stream, pack)
  }

  /** Appends everything and makes it durable. */
  async end(): Promise<void> {
    this.closePacks()
    while (this.#draining !== null) await this.#draining
    await this.#flushing
    await this.#flush()
    if (this.#failure !== null) throw this.#failure
  }

  #place(location: Location | null): Place | null {
    if (location === null) return null
    const { cores, mayRefer } = this.#options
    const core = cores.find(location.core)
    if (core === null || !mayRefer(location.core, location.block)) return null
    return { core, block: location.block, ordinal: location.ordinal }
  }

  #begin(stream: Stream): OpenPack {
    const pack = this.#newPack(stream, this.#options.pool.segmentBuffer())
    this.#open.set(stream, pack)
    return pack
  }

  #newPack(stream: Stream, raw: ArrayBuffer): OpenPack {
    const { promise, resolve } = withResolvers<number>()
    const kind = stream === 'ids' || stream === 'places' ? 'pages' : 'chunks'
    return { kind, items: [], raw, bytes: 0, block: promise, setBlock: resolve }
  }

  #list(pack: OpenPack, id: Buffer, length: number): Promise<Place> {
    const ordinal = pack.items.push({ id, length }) - 1
    pack.bytes += length
    const place = pack.block.then((block) => ({ core: this.ownCore, block, ordinal }))
    this.#pending.set(name(id), place)
    return place
  }

  #close(stream: Stream, pack: OpenPack): void {
    this.#open.delete(stream)
    const isThorough = stream === 'working'
    if (isThorough) this.working.push(this.#next)
    this.#send(pack, isThorough)
  }

  #send(pack: OpenPack, isThorough = false): void {
    // Its place never becomes known: whoever waits for it is told of the failure.
    if (this.#failure !== null) return
    const { log, pool, compress } = this.#options
    const { kind, items, raw, bytes } = pack
    const index = this.#next++
    const ids = new Uint8Array(items.length * HASH_BYTES)
    items.forEach(({ id }, n) => ids.set(id, n * HASH_BYTES))
    const lengths = Uint32Array.from(items, ({ length }) => length)
    const { sealing, key: core } = log
    const block = pool.pack({
      of: kind,
      raw,
      ids,
      lengths,
      compress,
      isThorough,
      sealing,
      core,
      index
    })
    // Whoever awaits it in its turn sees the failure.
    block.catch(() => {})
    this.#inFlight += bytes
    this.#queue.push({ index, items, bytes, block })
    pack.setBlock(index)
    this.#draining ??= this.#drain()
  }

  async #drain(): Promise<void> {
    try {
      while (this.#queue.length > 0) await this.#appendBatch()
    } catch (error) {
      this.#fail(error)
    } finally {
      this.#draining = null
      this.#wake()
    }
  }

  async #appendBatch(): Promise<void> {
    const { log, requireRoom } = this.#options
    const batch: ClosedPack[] = []
    const blocks: PackedBlock[] = []
    let bytes = 0
    while (this.#queue.length > 0 && bytes < BATCH_BYTES) {
      const pack = this.#queue.shift()
      if (pack === undefined) break
      const block = await pack.block
      batch.push(pack)
      blocks.push(block)
      bytes += block.body
    }
    const [first] = batch
    if (first === undefined) return
    // What is not flushed yet will be written once more.
    await requireRoom(bytes + this.#unflushed + this.#flushingBytes)
    await log.appendSealed(
      blocks.map((block) => block.bytes),
      first.index
    )
    const core = log.key.subarray(0, CORE_PREFIX)
    for (const block of blocks) block.release()
    for (const pack of batch) {
      this.#inFlight -= pack.bytes
      pack.items.forEach(({ id }, ordinal) => {
        this.#unindexed.push({ id, location: { core, block: pack.index, ordinal } })
      })
    }
    this.stored += bytes
    this.#unflushed += bytes
    if (this.#unflushed >= FLUSH_BYTES || this.#unindexed.length >= FLUSH_ITEMS) {
      // The one before must be done, or memory would grow with a slow disk.
      await this.#flushing
      this.#flushing = this.#flush()
    }
    this.#wake()
  }

  /**
   * The index may name only what is durable: it is another database, and after a power cut it
   * could know blocks that the log has lost and will fill with something else.
   */
  async #flush(): Promise<void> {
    const { index, parcel, flush } = this.#options
    const items = this.#unindexed
    this.#unindexed = []
    this.#flushingBytes = this.#unflushed
    this.#unflushed = 0
    // A store that failed or was closed may never answer.
    if (items.length === 0 || this.#failure !== null) return
    try {
      await flush()
      await index.add(parcel, items)
    } catch (error) {
      this.#fail(error)
    }
    this.#flushingBytes = 0
    for (const { id } of items) this.#pending.delete(name(id))
  }

  #fail(error: unknown): void {
    this.#failure ??= error instanceof Error ? error : new Error(String(error))
    this.#queue.length = 0
    this.#wake()
  }

  #wake(): void {
    for (const waiter of this.#waiters.splice(0)) waiter()
  }
}

function name(id: Buffer): string {
  return id.toString('latin1')
}

function isPresent(id: Buffer | null): id is Buffer {
  return id !== null
}

function withResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => {}
  const promise = new Promise<T>((settle) => (resolve = settle))
  return { promise, resolve }
}
