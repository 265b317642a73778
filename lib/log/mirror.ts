import { setTimeout as delay } from 'node:timers/promises'
import type { Log } from './log.js'
import { MAX_BLOCK } from '../format/limits.js'
import { Pace } from './pace.js'
import type { Quota } from './quota.js'

/** Blocks asked for at a time: enough to keep a long link full, little enough to cancel. */
const SLICE = 1_024
/** Hosts that were given up are asked again after so long, ms. */
const RETRY = 2_000
/** So many logs may fetch into what is left of a quota at a time. */
const SHARERS = 8
/** A store that has taken all that it may is looked at again after so long, ms. */
const FULL = 30_000
/** A log at which nothing was to do for so long has had a rest, ms. */
const WHILE = 1_000
/** Blocks of `data` are large. */
const DATA_SLICE = 256

export interface MirrorOptions {
  /** Called each time nothing is missing. */
  onWhole?: () => void
  /** May bring blocks in another way, and returns those that must be fetched. */
  shortcut?: (log: Log, blocks: number[]) => Promise<number[]>
  /** Says how much it may ask for at a time. */
  pace?: Pace
  /** Says whether there is room. */
  quota?: Quota | null
  /** Whether all that is missing is to come now; else only the first block, and what `bring` names. */
  isFilling?: () => boolean
  /** A log that grows after a while is left alone for so long, ms: it may be said meanwhile what to begin with. */
  settling?: number
}

/**
 * Keeps a copy of another host's log whole: asks for every block that is missing, and again
 * whenever the log grows. What is here is never fetched again, so a cut transfer goes on where it
 * stopped.
 */
export class Mirror {
  readonly log: Log
  readonly #onWhole: () => void
  readonly #shortcut: (log: Log, blocks: number[]) => Promise<number[]>
  readonly #pace: Pace
  readonly #quota: Quota | null
  readonly #isFilling: () => boolean
  readonly #settling: number
  /** When something was last asked for, by `performance.now`. */
  #asked = -Infinity
  #waiting: NodeJS.Timeout | undefined
  readonly #stops: (() => void)[]
  #isRunning = false
  #isAgain = false
  #isClosed = false
  #cancel: () => void = () => {}

  constructor(
    log: Log,
    {
      onWhole = () => {},
      shortcut = async (_, blocks) => blocks,
      pace = new Pace(),
      quota = null,
      isFilling = () => true,
      settling = 0
    }: MirrorOptions = {}
  ) {
    this.#pace = pace
    this.#quota = quota
    this.#isFilling = isFilling
    this.#settling = settling
    this.#shortcut = shortcut
    this.log = log
    this.#onWhole = onWhole
    // It may be waiting for blocks which nobody sends any more, or for more than it may now.
    const restart = (): void => this.look()
    this.#stops = [log.onAppend(() => this.#run()), log.onDrop(restart), pace.onChange(restart)]
    const retrying = setInterval(() => log.retry(), RETRY).unref()
    this.#stops.push(() => clearInterval(retrying))
    if (quota !== null) this.#stops.push(quota.onChange(restart))
    this.#run()
  }

  close(): void {
    this.#isClosed = true
    for (const stop of this.#stops) stop()
    clearTimeout(this.#waiting)
    this.#cancel()
  }

  /** Looks again what is to come. */
  look(): void {
    this.#run()
    this.#cancel()
  }

  /**
   * Fetches some blocks, ascending, whether all that is missing is to come or not. Whether they are here;
   * false: it was called off, or there is no room.
   */
  async bring(blocks: readonly number[], signal: AbortSignal): Promise<boolean> {
    const missing = blocks.filter((index) => !this.log.has(index))
    if (missing.length === 0) return true
    if (this.#isClosed || signal.aborted || (await this.#room()) === 0) return false
    const others = await this.#shortcut(this.log, missing)
    if (this.#isClosed || signal.aborted) return false
    const wanted = others.filter((index) => !this.log.isDropped(index))
    const { done, cancel } = this.log.fetch(wanted, { isUrgent: false })
    signal.addEventListener('abort', cancel, { once: true })
    const isAll = await done
    signal.removeEventListener('abort', cancel)
    if (isAll && this.log.contiguousLength === this.log.length) this.#onWhole()
    return isAll
  }

  #run(): void {
    this.#isAgain = true
    if (this.#isRunning || this.#isClosed) return
    this.#isRunning = true
    this.#fill().catch(() => {
      // The store is closing; nothing is lost, the next start asks again.
    })
  }

  async #fill(): Promise<void> {
    try {
      while (this.#isAgain && !this.#isClosed) {
        this.#isAgain = false
        if (await this.#fillOnce()) this.#onWhole()
      }
    } finally {
      // With no await since the last look at the flag, no wake-up is lost in between.
      this.#isRunning = false
    }
  }

  /** Blocks that this log may ask for, as others do at the same time; with none it is looked again later. */
  async #room(): Promise<number> {
    const room = Math.floor(((await this.#quota?.room()) ?? Infinity) / MAX_BLOCK)
    if (room > 0) return Math.ceil(room / SHARERS)
    clearTimeout(this.#waiting)
    this.#waiting = setTimeout(() => this.#run(), FULL)
    this.#waiting.unref()
    return 0
  }

  /** Whether the log was whole at the end. */
  async #fillOnce(): Promise<boolean> {
    // Its length is looked up each time: it may be taken back meanwhile, and grows.
    const { log } = this
    let from = log.contiguousLength
    if (!this.#isFilling() && from === 0 && log.length > 0) from = await this.#fillSlice(0, 1)
    if (from < log.length && this.#settling > 0 && performance.now() - this.#asked > WHILE) {
      await delay(this.#settling, undefined, { ref: false })
    }
    while (from < log.length && this.#isFilling()) {
      this.#asked = performance.now()
      const turn = await this.#pace.turn(this.log.kind === 'data' ? DATA_SLICE : SLICE)
      const most = Math.min(turn, await this.#room())
      if (most === 0) return false
      from = await this.#fillSlice(from, most)
      if (from === -1) return false
    }
    return log.length > 0 && log.contiguousLength >= log.length
  }

  /** Where the next slice begins; -1: it was called off. */
  async #fillSlice(from: number, most: number): Promise<number> {
    const { mode } = this.#pace
    if (this.#isClosed) return -1
    const began = performance.now()
    const { length } = this.log
    const blocks = this.log.missing(from, length, most)
    const last = blocks.at(-1)
    if (last === undefined) return length
    const others = await this.#shortcut(this.log, blocks)
    if (this.#isClosed) return -1
    // What was a fair share then may be too much by now.
    if (this.#pace.mode !== mode) return from
    // Some may have been dropped meanwhile; nobody would ever send them.
    const wanted = others.filter((index) => !this.log.isDropped(index))
    const { done, cancel } = this.log.fetch(wanted, { isUrgent: false })
    this.#cancel = cancel
    if (!(await done) || this.#isClosed) return -1
    this.#pace.took(performance.now() - began)
    return last + 1
  }
}
