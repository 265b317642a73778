/** `full`: as fast as it goes. `background`: behind whoever waits. `held`: not at all. */
export type PaceMode = 'full' | 'background' | 'held'

/** A slice in the background should take no longer than this, ms: so long a fault may wait for it. */
const SLICE = 200
const LARGEST = 64
/** After a fault the next one is likely: so long the background stays quiet, ms. */
const QUIET = 100

/**
 * Decides how much a mirror may ask for at a time, so that what somebody waits for is not behind
 * what nobody does. In the background slices grow and shrink with the speed of the link.
 */
export class Pace {
  #mode: PaceMode = 'full'
  #faults = 0
  #lastFault = -Infinity
  #slice = 1
  #waiters: (() => void)[] = []
  readonly #listeners = new Set<() => void>()

  get mode(): PaceMode {
    return this.#mode
  }

  set mode(mode: PaceMode) {
    if (this.#mode === mode) return
    this.#mode = mode
    this.#slice = 1
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
      if (this.#mode === 'full') return most
      const isQuiet = this.#faults === 0 && performance.now() - this.#lastFault >= QUIET
      if (this.#mode === 'background' && isQuiet) return Math.min(most, this.#slice)
      await new Promise<void>((resolve) => this.#waiters.push(resolve))
    }
  }

  /** How long a slice took, ms. */
  took(ms: number): void {
    if (ms < SLICE / 2) this.#slice = Math.min(LARGEST, this.#slice * 2)
    else if (ms > SLICE) this.#slice = Math.max(1, this.#slice >> 1)
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
