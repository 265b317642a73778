import { isHoardedVersions, type HoardedVersions, type HoardPolicy } from '../../choices.js'
import { ParcelError } from '../../errors.js'
import type { HeldCore } from '../../format/control-record.js'
import type { CoreHead } from '../../format/version.js'
import { printable } from '../../format/file-table.js'
import { CoreTable } from '../../log/core-table.js'
import { blocksOf, type BlockAt } from './blocks-of.js'
import { stateName, type History, type Known, type Placement } from '../history.js'
import type { LogSet } from '../logs/log-set.js'
import { matcher } from './patterns.js'
import type { SavedState } from '../saved-state.js'
import { packsOf } from '../version-packs.js'

/** When nothing has come for so long, something else is tried, ms. */
const STALLED = 3_000
/** What could not be fetched is tried again after so long, ms. */
const AGAIN = 1_000
const POLL = 100
/** What has come is looked at again after so long, ms. */
const REST = 5_000
/** Blocks asked for at a time, at most. */
const SLICE = 256
/** Blocks that are found ahead of those that are fetched. */
const AHEAD = 1_024
/** Slices that are fetched at a time. */
const LANES = 3
/** More pages are not remembered: those of some hundred gigabytes. */
const MOST_PAGES = 200_000
/** So many versions that are not all of their logs are known to be here. */
const MOST_KEPT = 1_024

interface Parts {
  set: LogSet
  history: History
  saved: SavedState
  /** This host cannot read what it keeps. */
  isBlind: () => boolean
  /** All is fetched whatever the user has said: it is needed for more than reading it. */
  isAllNeeded: () => boolean
  /** Whether logs that are here have these states. */
  areFitting: (heads: readonly CoreHead[]) => Promise<boolean>
  onWhole: () => void
}

/** What of a version is here: all of it, but not all of its logs. */
interface Kept {
  heads: readonly CoreHead[]
  /** Numbers of blocks by core in hex, ascending. */
  blocks: ReadonlyMap<string, readonly number[]>
}

/**
 * Which versions come here without being asked for, and in which order: those that somebody waits for, then
 * the newest first; of each what a resume wants first, then memory, then disks. With all versions wanted,
 * what no version needs comes at the end.
 */
export class Hoard {
  readonly #parts: Parts
  readonly #kept = new Map<string, Kept>()
  /** Versions that somebody waits for now, and how many do. */
  readonly #awaited = new Map<Known, number>()
  /**
   * Versions, in hex, of which all came that is wanted, or that are damaged, and the states of logs that they
   * were in: what else belongs to those comes after all others.
   */
  readonly #settled = new Map<string, string>()
  /** Pages below which all is here, by core in hex. */
  readonly #pages = new Set<string>()
  readonly #stops: (() => void)[]
  #again: NodeJS.Timeout | null = null
  #running: Promise<void> | null = null
  #isStale = false
  #isClosed = false
  #current: AbortController | null = null
  #fetching: Fetching | null = null
  #aim = ''
  /** Versions of which all came since a while, for an aim: what is still said to be missing of them is not in them. */
  #brought = { aim: '', at: -Infinity, versions: new Set<Known>() }

  constructor(parts: Parts) {
    this.#parts = parts
    this.#stops = [parts.set.pace.onChange(() => this.heed())]
  }

  async close(): Promise<void> {
    this.#isClosed = true
    for (const stop of this.#stops) stop()
    clearTimeout(this.#again ?? undefined)
    this.#current?.abort()
    await this.#running
  }

  get policy(): HoardPolicy {
    return this.#parts.saved.value.hoard
  }

  /** Throws USAGE. */
  async setPolicy(policy: HoardPolicy): Promise<void> {
    if (!isHoardedVersions(policy.versions)) {
      throw new ParcelError('USAGE', 'versions: head, last:N, all or none')
    }
    this.#parts.saved.value.hoard = policy
    await this.#parts.saved.save()
    this.#settled.clear()
    this.heed()
  }

  /** Whether all of every version is to be here. */
  get isAll(): boolean {
    const { isBlind, isAllNeeded } = this.#parts
    const { versions, files } = this.policy
    return isBlind() || isAllNeeded() || (versions === 'all' && files.length === 0)
  }

  /** Whether all of a version is known to be here although not all of its logs is. */
  isWhole({ id }: Known): boolean {
    return this.#keptOf(id) !== null
  }

  /** Whether it is so by these states of logs. */
  isWholeIn({ id }: Known, heads: readonly CoreHead[]): boolean {
    const kept = this.#keptOf(id)
    return (
      kept !== null &&
      kept.heads.length === heads.length &&
      kept.heads.every((head) => heads.some((each) => stateName(each) === stateName(head)))
    )
  }

  /** What a receipt of such a version says; null: it is not known to be here. */
  heldOf({ id }: Known): HeldCore[] | null {
    const kept = this.#keptOf(id)
    if (kept === null) return null
    return kept.heads.map((head) => {
      const blocks = kept.blocks.get(head.key.toString('hex')) ?? []
      const bitmap = Buffer.alloc(((blocks.at(-1) ?? -1) >> 3) + 1)
      for (const block of blocks)
        bitmap[block >> 3] = (bitmap[block >> 3] ?? 0) | (1 << (block & 7))
      return { head, blocks: bitmap }
    })
  }

  /** How many blocks such a version has; null: that is not known. */
  countOf({ id }: Known): number | null {
    const kept = this.#keptOf(id)
    return kept && [...kept.blocks.values()].reduce((sum, { length }) => sum + length, 0)
  }

  /** Blocks that are known to be wanted and are still to come. */
  get left(): number {
    return this.#fetching?.left ?? 0
  }

  /** Fetches a version before all others until the returned function is called. */
  want(known: Known): () => void {
    this.#awaited.set(known, (this.#awaited.get(known) ?? 0) + 1)
    this.heed()
    return () => {
      const left = (this.#awaited.get(known) ?? 1) - 1
      if (left > 0) this.#awaited.set(known, left)
      else this.#awaited.delete(known)
      this.heed()
    }
  }

  /** Looks again what is to come: there are other versions, or other blocks are here. */
  heed(): void {
    if (this.#isClosed) return
    const isSame = this.#aimOf() === this.#aim
    // What could not be fetched a moment ago is not tried again at once.
    if (isSame && this.#again !== null) return
    this.#isStale = true
    if (this.#running !== null) {
      if (!isSame) this.#current?.abort()
      return
    }
    this.#running = this.#run()
      .catch((error: unknown) => {
        if (!this.#isClosed) this.#parts.set.problem('', ParcelError.from(error).message)
      })
      .finally(() => {
        this.#running = null
        if (this.#isStale) this.heed()
      })
  }

  /** What decides where to begin. */
  #aimOf(): string {
    const heads = this.#parts.history.heads().map(({ id }) => id.toString('hex', 0, 8))
    const awaited = [...this.#awaited.keys()].map(({ id }) => id.toString('hex', 0, 8))
    const { mode } = this.#parts.set.pace
    const { versions, files } = this.policy
    const { carriesTo } = this.#parts.saved.value
    return [mode, versions, ...files, this.isAll, ...carriesTo, ...awaited, '/', ...heads].join(' ')
  }

  async #run(): Promise<void> {
    while (this.#isStale && !this.#isClosed) {
      this.#isStale = false
      this.#aim = this.#aimOf()
      clearTimeout(this.#again ?? undefined)
      this.#again = null
      if (await this.#runOnce()) continue
      this.#isStale &&= this.#aimOf() !== this.#aim
      if (this.#isStale || this.#isClosed) continue
      const again = (): void => {
        this.#again = null
        this.heed()
      }
      this.#again = setTimeout(again, AGAIN).unref()
    }
  }

  /** false: something could not be fetched. */
  async #runOnce(): Promise<boolean> {
    const { set, saved, isBlind, isAllNeeded } = this.#parts
    let isLacking = false
    const order = isBlind() || isAllNeeded() ? [] : this.#order()
    const now = performance.now()
    if (this.#brought.aim !== this.#aim || now - this.#brought.at > REST) {
      this.#brought = { aim: this.#aim, at: now, versions: new Set() }
    }
    const { versions } = this.#brought
    const lacking = order.filter((known) => !versions.has(known) && !this.#isSettled(known))
    // Of a single one it is known that it is here when its logs are.
    const isExact = !this.isAll || lacking.length > 1
    for (const known of lacking) {
      if (this.#isClosed) return true
      set.isFilling = false
      if (await this.#bring(known, isExact)) versions.add(known)
      else isLacking = true
      if (this.#isStale && this.#aimOf() !== this.#aim) return true
    }
    const { carriesTo } = saved.value
    // What others have signed for is not to come first.
    set.isFilling = this.isAll && carriesTo.every((host) => set.hasHeard(host))
    return !isLacking
  }

  /** Versions that are to be here, in the order in which they are to come. */
  #order(): Known[] {
    const { history, saved } = this.#parts
    const awaited = [...this.#awaited.keys()]
    const newest = history.list()
    const { versions } = this.policy
    const heads = new Set(history.heads())
    const chosen = versions === 'none' ? [] : newest.filter((known) => heads.has(known))
    if (versions === 'all') chosen.push(...newest)
    const count = countIn(versions)
    chosen.push(...newest.slice(0, count))
    const forgotten = new Set(saved.value.forgotten)
    const kept = chosen.filter(({ id }) => !forgotten.has(id.toString('hex')))
    return [...new Set([...awaited, ...kept])]
  }

  #isSettled(known: Known): boolean {
    const { history, set } = this.#parts
    const placement = history.placement(known.id)
    if (placement === null) return true
    const isHere = placement.heads.every(({ key, length }) => {
      const log = set.get(key)
      return log !== null && log.length >= length && log.has(log.contiguousLength, length)
    })
    if (isHere || this.isWhole(known)) return true
    const settled = this.#settled.get(known.id.toString('hex'))
    return settled === statesOf(placement) && !this.#awaited.has(known)
  }

  /**
   * Fetches what is wanted of a version. Whether all of it is here. `isExact`: looks at all of its pages, so
   * that it is known which blocks it needs; else not at those of which that was found out before.
   */
  async #bring(known: Known, isExact: boolean): Promise<boolean> {
    const { set, history } = this.#parts
    const isAwaited = this.#awaited.has(known)
    const { files } = isAwaited ? { files: [] } : this.policy
    const isMatch = matcher(files)
    const stop = new AbortController()
    this.#current = stop
    const { signal } = stop
    const placement = history.placement(known.id)
    if (placement === null) return false
    const { places, heads } = placement
    const cores = new CoreTable(places.cores)
    const packs = packsOf(cores, set, signal)
    const nameOf = (core: number): string => places.cores[core]?.toString('hex') ?? ''
    const isHere = ({ core, block }: BlockAt): boolean =>
      set.get(cores.key(core))?.has(block) === true
    const isStopped = new Promise<number>((resolve) => {
      signal.addEventListener('abort', () => resolve(0), { once: true })
    })
    const turn = (most: number): Promise<number> =>
      isAwaited ? Promise.resolve(most) : Promise.race([set.pace.turn(most), isStopped])
    const pages = new Set<string>()
    const found = new Map<number, Set<number>>()
    const blocks = blocksOf({
      version: known.version,
      places,
      trace: history.trace(known.id),
      source: {
        read: async (place) => {
          // Pages too come only when it is their turn, and nobody waits for them.
          if (!isHere(place)) {
            await turn(1)
            await set.bring(cores.key(place.core), [place.block], signal)
          }
          return packs.read(place)
        }
      },
      isWanted: ({ entry }) => isMatch(printable(entry.path)),
      isNew: ({ core, block, ordinal }) => {
        const name = `${nameOf(core)}/${block}/${ordinal}`
        if (pages.has(name) || (!isExact && this.#pages.has(name))) return false
        pages.add(name)
        return true
      }
    })
    const began = performance.now()
    const timer = setInterval(() => {
      const isHeld = set.pace.mode === 'held' && !isAwaited
      if (isHeld || performance.now() - Math.max(began, set.lastDownload) < STALLED) return
      // What is wanted most nobody may have now: the others are not to wait for it.
      if (this.isAll) set.isFilling = true
      else stop.abort()
    }, POLL).unref()
    const fetching = new Fetching(set, places.cores, { signal, turn })
    this.#fetching = fetching
    try {
      for await (const batch of blocks) {
        for (const at of batch) {
          const known = found.get(at.core) ?? new Set()
          found.set(at.core, known)
          if (known.has(at.block)) continue
          known.add(at.block)
          if (!isHere(at)) fetching.add(at)
        }
        await fetching.room()
        if (signal.aborted) return false
      }
      if (!(await fetching.end()) || signal.aborted) return false
    } catch (error) {
      stop.abort()
      const { code, message } = ParcelError.from(error)
      // What is said of a past that a log here does not have leads anywhere.
      if (code !== 'UNREACHABLE' && (await this.#parts.areFitting(heads))) {
        this.#settled.set(known.id.toString('hex'), statesOf(placement))
        set.problem('', `${known.id.toString('hex', 0, 6)} cannot be read: ${message}`)
      }
      return code !== 'UNREACHABLE'
    } finally {
      clearInterval(timer)
      await fetching.end()
      this.#fetching = null
    }
    if (files.length > 0 || !isExact) {
      this.#settled.set(known.id.toString('hex'), statesOf(placement))
    }
    if (files.length === 0) {
      if (this.#pages.size > MOST_PAGES) this.#pages.clear()
      for (const page of pages) this.#pages.add(page)
      if (isExact) this.#keep(known, heads, found, nameOf)
    }
    this.#parts.onWhole()
    return true
  }

  #keep(
    { id }: Known,
    heads: readonly CoreHead[],
    found: ReadonlyMap<number, ReadonlySet<number>>,
    nameOf: (core: number) => string
  ): void {
    const blocks = new Map(
      [...found].map(([core, each]) => [nameOf(core), [...each].toSorted((a, b) => a - b)])
    )
    const [oldest] = this.#kept.keys()
    if (this.#kept.size >= MOST_KEPT && oldest !== undefined) this.#kept.delete(oldest)
    this.#kept.set(id.toString('hex'), { heads, blocks })
  }

  /** What is known of a version, if all of it is still here. */
  #keptOf(id: Buffer): Kept | null {
    const { set } = this.#parts
    const kept = this.#kept.get(id.toString('hex'))
    if (kept === undefined) return null
    for (const [core, blocks] of kept.blocks) {
      const log = set.get(Buffer.from(core, 'hex'))
      if (log === null || !blocks.every((block) => log.has(block))) {
        this.#kept.delete(id.toString('hex'))
        return null
      }
    }
    return kept
  }
}

function statesOf({ heads }: Placement): string {
  return heads.map(stateName).join()
}

function countIn(versions: HoardedVersions): number {
  return versions.startsWith('last:') ? Number(versions.slice(5)) : 0
}

/** Fetches blocks in the order in which they are added, some at a time. */
class Fetching {
  readonly #set: LogSet
  readonly #cores: readonly Buffer[]
  readonly #signal: AbortSignal
  readonly #turn: (most: number) => Promise<number>
  readonly #queue: BlockAt[] = []
  #running: Promise<void> | null = null
  #isWhole = true
  #underWay = 0

  constructor(
    set: LogSet,
    cores: readonly Buffer[],
    { signal, turn }: { signal: AbortSignal; turn: (most: number) => Promise<number> }
  ) {
    this.#set = set
    this.#cores = cores
    this.#signal = signal
    this.#turn = turn
  }

  add(at: BlockAt): void {
    this.#queue.push(at)
    this.#running ??= this.#run().finally(() => (this.#running = null))
  }

  /** At full pace the last blocks of one slice leave room for those of the next. */
  get #lanes(): number {
    const { mode, isLimited } = this.#set.pace
    return mode === 'full' && !isLimited ? LANES : 1
  }

  get left(): number {
    return this.#queue.length + this.#underWay
  }

  /** Waits while more than enough is to be fetched. */
  async room(): Promise<void> {
    while (this.#queue.length > AHEAD && !this.#signal.aborted) await this.#running
  }

  /** Waits for all that was added; whether all of it came. */
  async end(): Promise<boolean> {
    while (this.#running !== null) await this.#running
    return this.#isWhole && this.#queue.length === 0
  }

  async #run(): Promise<void> {
    // The rest of what is known now comes with it.
    await Promise.resolve()
    await Promise.all(Array.from({ length: this.#lanes }, () => this.#runLane()))
  }

  async #runLane(): Promise<void> {
    while (this.#queue.length > 0 && !this.#signal.aborted) {
      const count = await this.#turn(Math.min(SLICE, this.#queue.length))
      if (this.#signal.aborted) return
      const began = performance.now()
      const byCore = new Map<number, number[]>()
      for (const { core, block } of this.#queue.splice(0, count)) {
        byCore.set(core, [...(byCore.get(core) ?? []), block])
      }
      const all = [...byCore].map(([core, blocks]) => {
        const key = this.#cores[core]
        const ascending = blocks.toSorted((a, b) => a - b)
        return key === undefined ? false : this.#set.bring(key, ascending, this.#signal)
      })
      this.#underWay += count
      for (const isHere of await Promise.all(all)) this.#isWhole = this.#isWhole && isHere
      this.#underWay -= count
      this.#set.pace.took(performance.now() - began)
    }
  }
}
