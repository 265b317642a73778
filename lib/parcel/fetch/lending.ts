import { ParcelError } from '../../errors.js'
import type { Faults } from './faults.js'
import type { Known } from '../history.js'
import type { LogSet } from '../logs/log-set.js'
import { Prefetch } from './prefetch.js'
import { versionItems, type VersionItems } from './version-items.js'

/** Versions that are read on demand, and what is fetched meanwhile. */
export class Lending {
  readonly #set: LogSet
  readonly #faults: Faults
  /** How many images read a version now, and how many of them hold what nobody asked for. */
  #images = 0
  #held = 0

  constructor(set: LogSet, faults: Faults) {
    this.#set = set
    this.#faults = faults
  }

  /** Fetches what a resume of a version wants first, ahead of all else; null when nobody knows what that is. */
  prefetch({ id }: Known, signal: AbortSignal): Prefetch | null {
    const trace = this.#set.history.trace(id)
    if (trace === null || !this.#set.history.isPlaced(id)) return null
    const { cores } = this.#set.history.places(id)
    const isFaulting = (): boolean => this.#faults.isWaiting
    const prefetch = new Prefetch(trace, { cores, set: this.#set, isFaulting, signal })
    void this.#set.pace
      .urgent(() => prefetch.done)
      .catch((error: unknown) => this.#set.problem('', ParcelError.from(error).message))
    return prefetch
  }

  /** Until the returned function is called, nothing is fetched that nobody waits for. */
  hold(): () => void {
    return this.#hold(true)
  }

  /**
   * Lends a version to images. While they have it, what they do not wait for is fetched behind what
   * they do; with `prefetch` false it is not fetched at all. Throws UNREACHABLE.
   */
  lend(known: Known, { prefetch = true } = {}): VersionItems {
    const release = this.#hold(!prefetch)
    try {
      return versionItems(known, this.#set, this.#faults, { prefetch, release })
    } catch (error) {
      release()
      throw error
    }
  }

  /** Whether somebody reads a version of it now. */
  get isLent(): boolean {
    return this.#images > 0
  }

  #hold(isFull: boolean): () => void {
    const change = (by: 1 | -1): void => {
      this.#images += by
      if (isFull) this.#held += by
      const isHeld = this.#held > 0
      this.#set.pace.mode = isHeld ? 'held' : this.#images > 0 ? 'background' : 'full'
    }
    change(1)
    return () => change(-1)
  }
}
