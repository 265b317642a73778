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
/** Blocks of `data` are large. */
const DATA_SLICE = 256

/**
 * Keeps a copy of another host's log whole: asks for every block that is missing, and again
 * whenever the log grows. What is here is never fetched again, so a cut transfer goes on where it
 * stopped. `onWhole` is called each time nothing is missing. `shortcut` may bring blocks in another
 * way, and returns those that must be fetched. `pace` says how much it may ask for at a time, `quota`
 * whether there is room.
 */
export class Mirror {
  readonly log: Log
  readonly #onWhole: () => void
  readonly #shortcut: (log: Log, blocks: number[]) => Promise<number[]>
  readonly #pace: Pace
  readonly #quota: Quota | null
  #waiting: NodeJS.Timeout | undefined
  readonly #stops: (() => void)[]
  #isRunning = false
  #isAgain = false
  #isClosed = false
  #cancel: () => void = () => {}

  constructor(
    log: Log,
    onWhole: () => void,
    shortcut: (log: Log, blocks: number[]) => Promise<number[]> = async (_, blocks) => blocks,
    pace = new Pace(),
    quota: Quota | null = null
  ) {
    this.#pace = pace
    this.#quota = quota
    this.#shortcut = shortcut
    this.log = log
    this.#onWhole = onWhole
    // It may be waiting for blocks which nobody sends any more, or for more than it may now.
    const restart = (): void => {
      this.#run()
      this.#cancel()
    }
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
    const { length } = this.log
    let from = this.log.contiguousLength
    while (from < length) {
      const turn = await this.#pace.turn(this.log.kind === 'data' ? DATA_SLICE : SLICE)
      const most = Math.min(turn, await this.#room())
      if (most === 0) return false
      from = await this.#fillSlice(from, most)
      if (from === -1) return false
    }
    return length > 0
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
    const { done, cancel } = this.log.fetch(wanted)
    this.#cancel = cancel
    if (!(await done) || this.#isClosed) return -1
    this.#pace.took(performance.now() - began)
    return last + 1
  }
}
