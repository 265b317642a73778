import { setTimeout as delay } from 'node:timers/promises'
import type { RateLimit } from './rate-limit.js'

/** `full`: as fast as it goes. `background`: behind whoever waits. `held`: not at all. */
export type PaceMode = 'full' | 'background' | 'held'

/**
 * What is asked for at a time should take about this, ms: so long a fault may wait for it. At full pace nobody
 * waits, and how much is under way is seen to elsewhere: there slices are large, for all peers to have a part.
 */
const SPANS = { full: 2_000, background: 200 } as const
const FIRST = { full: 64, background: 1 } as const
const LEAST = { full: 64, background: 1 } as const
const LARGEST = 1_024
/** A block of a `data` log, bytes. */
const TYPICAL = 1_048_576
/**
 * After a fault the next one is likely: so long the background stays quiet, ms; on a slow link as
 * long as two of its blocks take, behind which the next fault would wait.
 */
const QUIET = { least: 100, most: 10_000 } as const

/**
 * Decides how much a mirror may ask for at a time, so that what somebody waits for is not behind
 * what nobody does. Slices grow and shrink with the speed of the link.
 */
export class Pace {
  #mode: PaceMode = 'full'
  #wanted: PaceMode = 'full'
  #isHeldBack = false
  /** How many bytes a second may come; null: as many as there are. */
  readonly #limit: RateLimit | null
  #faults = 0
  #lastFault = -Infinity
  #quiet: number = QUIET.least
  readonly #slices: { full: number; background: number } = { ...FIRST }
  #waiters: (() => void)[] = []
  readonly #listeners = new Set<() => void>()

  get mode(): PaceMode {
    return this.#mode
  }

  set mode(mode: PaceMode) {
    this.#wanted = mode
    this.#change()
  }

  /** Whether nothing is to come that nobody waits for, whatever the mode. */
  set isHeldBack(isHeldBack: boolean) {
    this.#isHeldBack = isHeldBack
    this.#change()
  }

  #change(): void {
    const mode = this.#isHeldBack ? 'held' : this.#wanted
    if (this.#mode === mode) return
    this.#mode = mode
    this.#slices.background = FIRST.background
    this.#wake()
    for (const listener of this.#listeners) listener()
  }

  constructor(limit: RateLimit | null = null) {
    this.#limit = limit
  }

  /** Calls back when the mode has changed. Returns how to stop. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Runs something that somebody waits for. */
  async urgent<T>(work: () => Promise<T>): Promise<T> {
    this.#faults++
    try {
      return await work()
    } finally {
      this.#faults--
      this.#lastFault = performance.now()
      if (this.#faults === 0) this.#wake()
    }
  }

  /** Waits until it is the background's turn, and says how many blocks it may ask for, of `most`. */
  async turn(most: number): Promise<number> {
    for (;;) {
      await this.#limit?.turn()
      const allowed = Math.min(most, this.#fewest)
      if (this.#mode === 'full') return Math.min(allowed, this.#slices.full)
      if (this.#mode === 'background' && this.#isQuiet) {
        return Math.min(allowed, this.#slices.background)
      }
      const woken = new Promise<void>((resolve) => this.#waiters.push(resolve))
      const isWaitingForQuiet = this.#mode === 'background' && this.#faults === 0
      await (isWaitingForQuiet
        ? Promise.race([woken, delay(this.#restOfQuiet + 1, undefined, { ref: false })])
        : woken)
    }
  }

  /** Whether only so many bytes a second may come. */
  get isLimited(): boolean {
    return this.#fewest !== Infinity
  }

  /** Blocks that come in about a second at the rate that is allowed. */
  get #fewest(): number {
    const { rate } = this.#limit ?? { rate: Infinity }
    return rate === Infinity ? Infinity : Math.max(1, Math.floor(rate / TYPICAL))
  }

  /** Waits until nobody has waited for anything for `ms`, or `signal` aborts. */
  async quiet(ms: number, signal: AbortSignal): Promise<void> {
    const isQuiet = (): boolean => this.#faults === 0 && performance.now() >= this.#lastFault + ms
    while (!signal.aborted && !isQuiet()) await delay(QUIET.least, undefined, { ref: false })
  }

  get #restOfQuiet(): number {
    return this.#lastFault + this.#quiet - performance.now()
  }

  get #isQuiet(): boolean {
    return this.#faults === 0 && this.#restOfQuiet <= 0
  }

  /** How long a slice took, ms. */
  took(ms: number): void {
    if (this.#mode === 'held') return
    if (this.#mode === 'background') {
      this.#quiet = Math.min(Math.max(2 * ms, QUIET.least), QUIET.most)
    }
    const [mode, span] = [this.#mode, SPANS[this.#mode]]
    const slice = this.#slices[mode]
    if (ms < span / 2) this.#slices[mode] = Math.min(LARGEST, slice * 2)
    else if (ms > span) this.#slices[mode] = Math.max(LEAST[mode], slice >> 1)
  }

  /** Lets go of whoever waits for a turn: they look again. */
  close(): void {
    this.#mode = 'full'
    this.#wake()
  }

  #wake(): void {
    for (const waiter of this.#waiters.splice(0)) waiter()
  }
}
