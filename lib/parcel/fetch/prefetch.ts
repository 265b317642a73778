import { setTimeout } from 'node:timers/promises'
import type { Trace } from '../../format/meta-record.js'
import type { Work } from '../../progress.js'
import type { LogSet } from '../logs/log-set.js'

/** Bytes asked for at a time: at the beginning, at most. */
const [FIRST, MOST] = [65_536, 8 * 1_048_576]
/** A link is not full yet while twice as much under way makes it faster by this factor. */
const GROWTH = 1.15
/** When nothing has come for so long, nobody waits for it any more, ms. */
const STALLED = 3_000
/** And nothing is asked for any more: what it lacks comes in the background, if ever. */
const GIVEN_UP = 30_000
/** What is not foretold, only likely, has so much of the link under way, ms: a fault waits behind it. */
const LIKELY = 40
/** Counted for a block whose size nobody knew. */
const UNKNOWN = 65_536
const POLL = 20

export interface PrefetchOptions {
  cores: readonly Buffer[]
  set: LogSet
  /** Whether somebody waits for a block that is not foretold, or not yet: it must not queue behind ours. */
  isFaulting: () => boolean
  signal: AbortSignal
}

interface Wanted {
  core: Buffer
  block: number
  /** Bytes. */
  size: number
  /** Whether the machine should not start without it. */
  isFirst: boolean
  /** It is not known to be used, only likely. */
  isLikely: boolean
}

/**
 * Fetches the blocks of a trace in their order, pipelined, so that what is wanted first comes first
 * and the link is never idle.
 */
export class Prefetch {
  /** Settles when all are here, or the signal aborts. */
  readonly done: Promise<void>
  readonly #blocks: readonly Wanted[]
  readonly #options: PrefetchOptions
  readonly #link = new LinkFill()
  #lastCame = performance.now()
  /** Bytes that were asked for and have not come. */
  #inFlight = 0
  /** Bytes that the machine should not start without: all that are not here, and those that have come. */
  readonly #first: number
  #firstCame = 0
  #isDone = false

  constructor({ blocks, first }: Pick<Trace, 'blocks' | 'first'>, options: PrefetchOptions) {
    this.#options = options
    // What was packed for a resume was used; what is behind it was not.
    const foretold = blocks.findLastIndex(({ isPacked }) => isPacked) + 1
    const missing = blocks.flatMap(({ core, block, size }, i) => {
      const key = options.cores[core]
      const log = key === undefined ? null : options.set.get(key)
      const isWanted =
        log !== null && block < log.length && !log.has(block) && !log.isDropped(block)
      return isWanted && key !== undefined
        ? [{ core: key, block, size: size || UNKNOWN, isFirst: i < first, isLikely: i >= foretold }]
        : []
    })
    this.#blocks = missing
    this.#first = missing.reduce((sum, { size, isFirst }) => sum + (isFirst ? size : 0), 0)
    this.done = this.#run().finally(() => (this.#isDone = true))
  }

  /**
   * Waits until what the machine should not start without will be here within `ms`. It starts
   * without it when nothing of it comes.
   */
  async firstWithin(ms: number, work: Work): Promise<void> {
    const total = this.#first
    while (!this.#isDone && this.#firstCame < total) {
      work.signal.throwIfAborted()
      const left = total - this.#firstCame
      // What was held up comes in a burst, which is no rate to go by.
      if (left <= Math.min(this.#link.rate, this.#link.mean) * ms) return
      if (performance.now() - this.#lastCame > STALLED) return
      work.report({
        step: 'fetching what it wants first',
        done: this.#firstCame,
        total,
        unit: 'bytes'
      })
      await setTimeout(POLL, undefined, { signal: work.signal })
    }
  }

  /** Whether there is room for a block. With a fault on its way, only for one at a time. */
  #isFull({ isLikely, isFirst }: Wanted): boolean {
    const { limit, mean } = this.#link
    const most = isLikely && !isFirst ? Math.min(limit, mean * LIKELY) : limit
    return this.#inFlight > 0 && this.#inFlight >= (this.#options.isFaulting() ? 1 : most)
  }

  #onBlock({ size, isFirst }: Wanted): void {
    this.#lastCame = performance.now()
    this.#link.onBlock(size)
    this.#inFlight -= size
    if (isFirst) this.#firstCame += size
  }

  async #run(): Promise<void> {
    const { set, signal } = this.#options
    const waiting = new Set<Promise<void>>()
    const cancels = new Set<() => void>()
    const cancelAll = (): void => {
      for (const cancel of cancels) cancel()
    }
    const giveUp = new AbortController()
    const until = AbortSignal.any([signal, giveUp.signal])
    until.addEventListener('abort', cancelAll, { once: true })
    const timer = setInterval(() => {
      if (performance.now() - this.#lastCame > GIVEN_UP) giveUp.abort()
    }, STALLED)
    for (const one of this.#blocks) {
      if (until.aborted) break
      const { core, block, size } = one
      const log = set.get(core)
      if (log === null) continue
      while (waiting.size > 0 && this.#isFull(one)) await Promise.race(waiting)
      if (until.aborted) break
      const { done, cancel } = log.fetch([block])
      cancels.add(cancel)
      this.#inFlight += size
      const coming = done.then(() => {
        this.#onBlock(one)
        cancels.delete(cancel)
        waiting.delete(coming)
      })
      waiting.add(coming)
    }
    await Promise.all(waiting)
    clearInterval(timer)
  }
}

/**
 * Finds out how many bytes must be under way to fill a link, and no more: a fault waits behind them.
 * Twice as many each time, as long as that makes it faster.
 */
class LinkFill {
  limit = FIRST
  /** Bytes for a ms, lately. */
  rate = 0
  #isFound = false
  #since = performance.now()
  #bytes = 0
  #first: number | null = null
  #total = 0

  /** Bytes for a ms, since the first came. */
  get mean(): number {
    return this.#first === null ? 0 : this.#total / Math.max(1, performance.now() - this.#first)
  }

  onBlock(size: number): void {
    this.#bytes += size
    if (this.#first === null) this.#first = performance.now()
    else this.#total += size
    if (this.#bytes < 2 * this.limit) return
    const now = performance.now()
    const rate = this.#bytes / Math.max(1, now - this.#since)
    if (!this.#isFound) {
      this.#isFound = rate < GROWTH * this.rate
      this.limit = this.#isFound ? Math.max(FIRST, this.limit / 2) : Math.min(MOST, this.limit * 2)
    }
    this.rate = rate
    this.#since = now
    this.#bytes = 0
  }
}
