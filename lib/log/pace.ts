/** `full`: as fast as it goes. `background`: behind whoever waits. `held`: not at all. */
export type PaceMode = 'full' | 'background' | 'held'

/**
 * What is asked for at a time should take about this, ms: so long a fault may wait for it. Longer
 * at full pace, where each slice but the first costs the link a round trip.
 */
const SPANS = { full: 2_000, background: 200 } as const
const FIRST = { full: 64, background: 1 } as const
const LEAST = { full: 4, background: 1 } as const
const LARGEST = 1_024
/** After a fault the next one is likely: so long the background stays quiet, ms. */
const QUIET = 100

/**
 * Decides how much a mirror may ask for at a time, so that what somebody waits for is not behind
 * what nobody does. Slices grow and shrink with the speed of the link.
 */
export class Pace {
  #mode: PaceMode = 'full'
  #faults = 0
  #lastFault = -Infinity
  readonly #slices: { full: number; background: number } = { ...FIRST }
  #waiters: (() => void)[] = []
  readonly #listeners = new Set<() => void>()

  get mode(): PaceMode {
    return this.#mode
  }

  set mode(mode: PaceMode) {
    if (this.#mode === mode) return
    this.#mode = mode
    this.#slices.background = FIRST.background
    this.#wake()
    for (const listener of this.#listeners) listener()
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
      if (this.#faults === 0) setTimeout(() => this.#wake(), QUIET)
    }
  }

  /** Waits until it is the background's turn, and says how many blocks it may ask for, of `most`. */
  async turn(most: number): Promise<number> {
    for (;;) {
      if (this.#mode === 'full') return Math.min(most, this.#slices.full)
      const isQuiet = this.#faults === 0 && performance.now() - this.#lastFault >= QUIET
      if (this.#mode === 'background' && isQuiet) {
        return Math.min(most, this.#slices.background)
      }
      await new Promise<void>((resolve) => this.#waiters.push(resolve))
    }
  }

  /** How long a slice took, ms. */
  took(ms: number): void {
    if (this.#mode === 'held') return
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
