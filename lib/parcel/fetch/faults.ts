import { setTimeout } from 'node:timers/promises'
import { OpenedPacks } from '../../chunk/opened-packs.js'
import { ParcelError } from '../../errors.js'
import type { Place } from '../../format/entry.js'
import type { Places } from '../../format/meta-record.js'
import type { Answerer } from '../../answerer.js'
import type { ItemSource } from '../../image/items.js'
import { HASH_BYTES } from '../../format/limits.js'
import type { Log } from '../../log/log.js'
import type { LogSet } from '../logs/log-set.js'
import type { Lookaside } from './lookaside.js'
import { SingleItems } from './single-items.js'

/** What an image needs now: an item of a block of a log, and its id if that is known. */
export interface Fault {
  core: Buffer
  block: number
  /** The item's number in the pack; null when it is not known, or does not matter. */
  ordinal: number | null
  id: Buffer | null
  /** Nobody knows what will be wanted next: the blocks behind it are likely. */
  isBlind?: boolean
}

/** The pack that has it, as it stands in its block; or the item alone, found elsewhere. */
export type Supply = { kind: 'pack' | 'item'; bytes: Buffer }

/** What somebody waits for in vain. */
export interface Stall {
  blocks: number
  /** ms. */
  since: number
}

/** After so long a wait is one that the user should hear of, ms. */
const NOTICED = 2_000
const POLL = 50
/** Blocks behind a fault that are fetched after it, where they are small, such as packs of memory. */
const [BEHIND, SMALL] = [3, 131_072]

/**
 * Gives images what they cannot go on without: from the logs here, from what this host has
 * elsewhere, or from whichever host sends it first. It overtakes all that is fetched in the
 * background, and waits for as long as it takes.
 */
export class Faults {
  readonly #set: LogSet
  readonly #lookaside: Lookaside
  readonly #single: SingleItems
  /** When each wait began, by `performance.now`. */
  readonly #waits = new Set<{ since: number }>()
  readonly #closed = new AbortController()

  constructor(set: LogSet, lookaside: Lookaside, answerers: () => readonly Answerer[]) {
    this.#set = set
    this.#lookaside = lookaside
    this.#single = new SingleItems(set, answerers)
  }

  /** Throws INTEGRITY for what is damaged; INTERRUPTED once `signal` aborts. */
  async supply(fault: Fault, signal: AbortSignal): Promise<Supply> {
    const { core, block, id } = fault
    const log = this.#set.get(core)
    if (log?.has(block) === true) return { kind: 'pack', bytes: await log.read(block) }
    if (id?.byteLength === HASH_BYTES && this.#lookaside.hasOther(this.#set)) {
      // With another's bytes in its place the image would fail, and never ask for the block itself.
      const found = await this.#lookaside.findTrue(id)
      if (found !== null) return { kind: 'item', bytes: found }
    }
    return this.#set.pace.urgent(() => this.#fetch(fault, signal))
  }

  isHere({ core, block }: Pick<Fault, 'core' | 'block'>): boolean {
    return this.#set.get(core)?.has(block) === true
  }

  /** Whether anybody waits. */
  get isWaiting(): boolean {
    return this.#waits.size > 0
  }

  /** Blocks that are long in coming, and since when; null when all is well. */
  get stall(): Stall | null {
    const now = performance.now()
    const long = [...this.#waits].map(({ since }) => now - since).filter((ms) => ms > NOTICED)
    return long.length === 0 ? null : { blocks: long.length, since: Math.max(...long) }
  }

  close(): void {
    this.#closed.abort()
    this.#single.close()
  }

  async #fetch(fault: Fault, signal: AbortSignal): Promise<Supply> {
    const { core, block, isBlind = false } = fault
    const wait = { since: performance.now() }
    this.#waits.add(wait)
    try {
      const until = AbortSignal.any([signal, this.#closed.signal])
      const item = await this.#single.ask(fault)
      if (item !== null) return { kind: 'item', bytes: item }
      const since = performance.now()
      for (;;) {
        if (until.aborted) {
          throw new ParcelError('INTERRUPTED', 'nobody waits for this block any more')
        }
        const log = this.#set.get(core)
        if (log === null) {
          // It will be announced.
          await setTimeout(POLL)
          continue
        }
        const bytes = await log.read(block, { wait: until }).catch((error: unknown) => {
          if (until.aborted) return null
          throw error
        })
        if (bytes === null) continue
        this.#single.took(bytes.byteLength, performance.now() - since)
        if (isBlind && bytes.byteLength <= SMALL) this.#fetchBehind(log, block)
        return { kind: 'pack', bytes }
      }
    } finally {
      this.#waits.delete(wait)
    }
  }

  /** Nobody waits for these. */
  #fetchBehind(log: Log, block: number): void {
    const blocks: number[] = []
    for (let next = block + 1; next <= block + BEHIND && next < log.length; next++) {
      if (!log.has(next) && !log.isDropped(next)) blocks.push(next)
    }
    if (blocks.length > 0) void log.fetch(blocks).done
  }
}

const CACHED = 12
/** So long a commit waits for one block of another host, ms: a guest stands still meanwhile. */
const PATIENCE = 30_000

/** Items of a version for this process, waited for, but not for ever, where they are not here. */
export class FaultSource implements ItemSource {
  readonly #places: Places
  readonly #faults: Faults
  readonly #signal: AbortSignal
  readonly #patience: number
  readonly #packs = new OpenedPacks(CACHED)
  /** Blocks that were not here when they were asked for. */
  fetched = 0

  constructor(places: Places, faults: Faults, signal: AbortSignal, patience = PATIENCE) {
    this.#places = places
    this.#faults = faults
    this.#signal = signal
    this.#patience = patience
  }

  read(place: Place): Promise<Buffer> {
    return this.#packs.read(place, async () => {
      const core = this.#places.cores[place.core]
      if (core === undefined) {
        throw new ParcelError(
          'INTEGRITY',
          `a place names core ${place.core}, which its table lacks`
        )
      }
      const wish = { core, block: place.block, ordinal: null, id: null }
      if (!this.#faults.isHere(wish)) this.fetched++
      return this.#supply(wish)
    })
  }

  /** Throws UNREACHABLE. */
  async #supply(wish: Fault): Promise<Buffer> {
    const patience = AbortSignal.timeout(this.#patience)
    const until = AbortSignal.any([this.#signal, patience])
    try {
      return (await this.#faults.supply(wish, until)).bytes
    } catch (error) {
      if (this.#signal.aborted || !patience.aborted) throw error
      throw new ParcelError(
        'UNREACHABLE',
        'what was written lies beside pages of its tree that are on no host in reach: bring one ' +
          "that has the version before online ('status' names them) and do it again",
        error
      )
    }
  }
}
