import { setImmediate } from 'node:timers/promises'
import { compress } from '../chunk/compress.js'
import type { Place } from '../format/entry.js'
import { encodePackHeader, type PackItem, type PackKind } from '../format/pack.js'
import type { ChunkIndex, Location } from './chunk-index.js'
import { CORE_PREFIX } from './chunk-index.js'
import type { CoreTable } from './core-table.js'
import type { Log } from './log.js'

/**
 * What is packed together, and how much of it raw: a demand fault pays for a whole pack, so memory
 * is in smaller ones; place pages are read before id pages and without them.
 */
const SIZES = { disk: 1_048_576, memory: 262_144, ids: 262_144, places: 262_144 } as const
export type Stream = keyof typeof SIZES

const MAX_ITEMS = 2_048
const BATCH_BYTES = 4 * 1_048_576
/** So much is appended between two syncs. */
const FLUSH_BYTES = 64 * 1_048_576
const FLUSH_ITEMS = 32_768
/** Raw bytes that may be under way behind the caller before it must wait. */
const IN_FLIGHT = 16 * 1_048_576

interface OpenPack {
  kind: PackKind
  items: PackItem[]
  parts: Buffer[]
  bytes: number
  release: (() => void)[]
  /** Resolved with the block's index as soon as the pack is closed, before it is appended. */
  block: Promise<number>
  setBlock: (block: number) => void
}

interface ClosedPack {
  index: number
  items: PackItem[]
  bytes: number
  body: Promise<Buffer[]>
}

export interface PackWriterOptions {
  log: Log
  parcel: Buffer
  index: ChunkIndex
  cores: CoreTable
  /** Length of a known core here by the first bytes of its key; 0 for one that cannot be referred to. */
  lengthOf: (core: Buffer) => number
  compress: boolean
  /** Makes the log durable up to here. */
  flush: () => Promise<void>
}

/**
 * Puts items (chunks and manifest pages) into packs and packs into this host's `data` log, each
 * item once. An item that the parcel has already is not written again. Compression runs on libuv's
 * threads, appends go on behind in order; `ready` is the back pressure.
 */
export class PackWriter {
  readonly #options: PackWriterOptions
  readonly #open = new Map<Stream, OpenPack>()
  /** Items put but not yet in the index. */
  readonly #pending = new Map<string, Promise<Place>>()
  readonly #queue: ClosedPack[] = []
  readonly #ownCore: number
  #next: number
  #inFlight = 0
  #finding = 0
  #unflushed = 0
  #unindexed: { id: Buffer; location: Location }[] = []
  #draining: Promise<void> | null = null
  #failure: Error | null = null
  #waiters: (() => void)[] = []
  /** Bytes of packs appended, before sealing and padding. */
  stored = 0

  constructor(options: PackWriterOptions) {
    this.#options = options
    this.#ownCore = options.cores.number(options.log.key)
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

  /**
   * Writes an item that `find` did not know. `bytes` must not change until `release` is called.
   * The place is known as soon as the pack is closed.
   */
  put(stream: Stream, id: Buffer, bytes: Buffer, release?: () => void): Promise<Place> {
    const known = this.#pending.get(name(id))
    if (known !== undefined) {
      release?.()
      return known
    }
    const pack = this.#open.get(stream) ?? this.#begin(stream)
    const ordinal = pack.items.push({ id, length: bytes.byteLength }) - 1
    pack.parts.push(bytes)
    pack.bytes += bytes.byteLength
    if (release !== undefined) pack.release.push(release)
    const place = pack.block.then((block) => ({ core: this.#ownCore, block, ordinal }))
    this.#pending.set(name(id), place)
    if (pack.bytes >= SIZES[stream] || pack.items.length >= MAX_ITEMS) this.#close(stream, pack)
    return place
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
    await this.#flush()
    if (this.#failure !== null) throw this.#failure
  }

  #place(location: Location | null): Place | null {
    if (location === null) return null
    const { cores, lengthOf, log } = this.#options
    const isOwn = location.core.equals(log.key.subarray(0, CORE_PREFIX))
    const length = isOwn ? log.length : lengthOf(location.core)
    const core = cores.find(location.core)
    if (core === null || location.block >= length) return null
    return { core, block: location.block, ordinal: location.ordinal }
  }

  #begin(stream: Stream): OpenPack {
    const { promise, resolve } = withResolvers<number>()
    const kind = stream === 'ids' || stream === 'places' ? 'pages' : 'chunks'
    const pack: OpenPack = {
      kind,
      items: [],
      parts: [],
      bytes: 0,
      release: [],
      block: promise,
      setBlock: resolve
    }
    this.#open.set(stream, pack)
    return pack
  }

  #close(stream: Stream, pack: OpenPack): void {
    this.#open.delete(stream)
    const index = this.#next++
    this.#inFlight += pack.bytes
    this.#queue.push({ index, items: pack.items, bytes: pack.bytes, body: this.#encode(pack) })
    pack.setBlock(index)
    this.#draining ??= this.#drain()
  }

  async #encode(pack: OpenPack): Promise<Buffer[]> {
    const raw = Buffer.concat(pack.parts, pack.bytes)
    for (const release of pack.release) release()
    const { codec, frame } = this.#options.compress
      ? await compress(raw)
      : { codec: 'none' as const, frame: raw }
    return [encodePackHeader(pack.kind, codec, pack.items), frame]
  }

  async #drain(): Promise<void> {
    try {
      while (this.#queue.length > 0) await this.#appendBatch()
    } catch (error) {
      this.#failure = error instanceof Error ? error : new Error(String(error))
      // Unhandled rejections of packs behind the failed one say nothing new.
      for (const pack of this.#queue.splice(0)) pack.body.catch(() => {})
    } finally {
      this.#draining = null
      this.#wake()
    }
  }

  async #appendBatch(): Promise<void> {
    const { log } = this.#options
    const batch: ClosedPack[] = []
    const bodies: Buffer[][] = []
    let bytes = 0
    while (this.#queue.length > 0 && bytes < BATCH_BYTES) {
      const pack = this.#queue.shift()
      if (pack === undefined) break
      batch.push(pack)
      const body = await pack.body
      bodies.push(body)
      bytes += body.reduce((sum, part) => sum + part.byteLength, 0)
    }
    const first = await log.append(bodies)
    if (first !== batch[0]?.index) throw new Error('the log was written by two at once')
    const core = log.key.subarray(0, CORE_PREFIX)
    for (const pack of batch) {
      this.#inFlight -= pack.bytes
      pack.items.forEach(({ id }, ordinal) => {
        this.#unindexed.push({ id, location: { core, block: pack.index, ordinal } })
      })
    }
    this.stored += bytes
    this.#unflushed += bytes
    if (this.#unflushed >= FLUSH_BYTES || this.#unindexed.length >= FLUSH_ITEMS) await this.#flush()
    this.#wake()
  }

  /**
   * The index may name only what is durable: it is another database, and after a power cut it
   * could know blocks that the log has lost and will fill with something else.
   */
  async #flush(): Promise<void> {
    const { index, parcel, flush } = this.#options
    const items = this.#unindexed
    if (items.length === 0) return
    this.#unindexed = []
    this.#unflushed = 0
    await flush()
    await index.add(parcel, items)
    for (const { id } of items) this.#pending.delete(name(id))
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
