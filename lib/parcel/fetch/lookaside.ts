import { setTimeout } from 'node:timers/promises'
import { isNamed } from '../../chunk/id.js'
import { decodePack } from '../../format/pack.js'
import { keyedHash } from '../../keys/hash.js'
import { NS } from '../../keys/namespaces.js'
import { CORE_PREFIX, type ChunkIndex, type Location } from '../../log/chunk-index.js'
import { CoreTable } from '../../log/core-table.js'
import type { Log } from '../../log/log.js'
import type { PackReader } from '../../log/pack-reader.js'
import type { LogSet } from '../logs/log-set.js'
import type { Outside } from './outside.js'
import { packsOf } from '../version-packs.js'

/** So long a search waits for logs to be indexed; the rest is indexed behind it, ms. */
const PATIENCE = 2_000
/** Logs that grew are indexed again after so long, ms. */
const FRESH = 10_000

type Reader = (location: Location) => Promise<Buffer | null>

/**
 * Chunks and pages of all parcels of this host, and of the places that the user has named, by id,
 * wherever they came from: what is there need not come over the network. Logs are indexed from their packs when something is
 * first looked for. Only a hint: whoever uses what it gives checks it.
 */
export class Lookaside {
  readonly #index: ChunkIndex
  readonly #sets = new Set<LogSet>()
  readonly #readers = new Map<LogSet, { logs: number; reader: Reader }>()
  #indexing: Promise<void> | null = null
  #waiting: Promise<void> = Promise.resolve()
  /** By `performance.now`. */
  #lastIndexed = -Infinity
  #isClosed = false

  readonly #outside: Outside | null

  constructor(index: ChunkIndex, outside: Outside | null = null) {
    this.#index = index
    this.#outside = outside
  }

  add(set: LogSet): void {
    this.#sets.add(set)
  }

  delete(set: LogSet): void {
    this.#sets.delete(set)
    this.#readers.delete(set)
  }

  /** Whether there is anything elsewhere than in `set`. */
  hasOther(set: LogSet): boolean {
    if (this.#outside?.isEmpty === false) return true
    for (const other of this.#sets) {
      if (other !== set && dataLogs(other).some((log) => log.length > 1)) return true
    }
    return false
  }

  /**
   * The bytes of each item that is here, null for the others. Who is not `patient` does not wait for
   * what is not indexed yet.
   */
  async find(ids: readonly Buffer[], { patient = true } = {}): Promise<(Buffer | null)[]> {
    const ready = this.#ready()
    if (patient) await ready
    const found: (Buffer | null)[] = ids.map(() => null)
    for (const set of this.#sets) {
      const open = found.flatMap((bytes, n) => (bytes === null ? [n] : []))
      if (open.length === 0) break
      const wanted = open.map((n) => ids[n] ?? Buffer.alloc(0))
      const locations = await this.#index.find(domainOf(set), wanted)
      if (locations.every((location) => location === null)) continue
      const read = this.#readerOf(set)
      for (const [i, location] of locations.entries()) {
        const n = open[i]
        if (location !== null && n !== undefined) found[n] = await read(location)
      }
    }
    const open = found.flatMap((bytes, n) => (bytes === null ? [n] : []))
    const others = await this.#outside?.find(open.map((n) => ids[n] ?? Buffer.alloc(0)))
    for (const [i, n] of open.entries()) found[n] = others?.[i] ?? null
    return found
  }

  /** The bytes of one item if it is known now to be here, checked. */
  async findTrue(id: Buffer): Promise<Buffer | null> {
    const [bytes = null] = await this.find([id], { patient: false })
    return bytes !== null && isNamed(bytes, id) ? bytes : null
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await this.#indexing
  }

  /** Keeps the packs that it has opened for what comes next. */
  #readerOf(set: LogSet): Reader {
    const logs = dataLogs(set).length
    const known = this.#readers.get(set)
    if (known?.logs === logs) return known.reader
    const reader = readerOf(set)
    this.#readers.set(set, { logs, reader })
    return reader
  }

  /** Has new blocks indexed now and then; all who search meanwhile wait once, for a while. */
  #ready(): Promise<void> {
    const isDue = performance.now() - this.#lastIndexed >= FRESH
    if (this.#indexing === null && isDue) {
      this.#indexing = this.#indexAll()
        .catch(() => {})
        .finally(() => {
          this.#indexing = null
          this.#lastIndexed = performance.now()
        })
      const patience = setTimeout(PATIENCE, undefined, { ref: false })
      this.#waiting = Promise.race([this.#indexing, patience])
    }
    return this.#waiting
  }

  async #indexAll(): Promise<void> {
    for (const set of this.#sets) {
      for (const log of dataLogs(set)) await this.#indexLog(set, log)
    }
  }

  async #indexLog(set: LogSet, log: Log): Promise<void> {
    let block = Math.max(1, await this.#index.indexed(log.key))
    const core = log.key.subarray(0, CORE_PREFIX)
    for (const end = log.contiguousLength; block < end && !this.#isClosed; block++) {
      if (log.isDropped(block)) continue
      const items = await log.read(block).then(
        (body) => decodePack(body).items,
        () => []
      )
      const located = items.map(({ id }, ordinal) => ({ id, location: { core, block, ordinal } }))
      await this.#index.add(domainOf(set), located)
      if (block % 64 === 0) await this.#index.setIndexed(log.key, block + 1)
    }
    await this.#index.setIndexed(log.key, block)
  }
}

/**
 * Apart from what commits refer to: a member can write any id into a pack of its own, and what is
 * only indexed has not been checked.
 */
function domainOf({ parcel }: LogSet): Buffer {
  return keyedHash(NS.index, parcel)
}

function dataLogs(set: LogSet): Log[] {
  return set.logs().filter(({ kind }) => kind === 'data')
}

/** Reads by location, null for what is not here or does not open. */
function readerOf(set: LogSet): Reader {
  const cores = new CoreTable(dataLogs(set).map(({ key }) => key))
  const packs: PackReader = packsOf(cores, set)
  return async ({ core, block, ordinal }) => {
    const number = cores.find(core)
    if (number === null) return null
    return packs.read({ core: number, block, ordinal }).catch(() => null)
  }
}
