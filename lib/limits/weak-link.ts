/** So often in succession it was slow before it is held for weak. */
const SLOW = 4
/** A weak link is tried again after so long, ms. */
const WEAK_FOR = 600_000

/** How slow the link of this host is, which shows only when more was wanted of it all the time. */
export class WeakLink {
  /** Until when it is held for weak, by `performance.now`. */
  #until = -Infinity
  /** Whether something was awaited when it was looked last, and what has come since, bytes. */
  #last = { isAwaited: false, received: 0, at: performance.now() }
  #slow = 0

  get isWeak(): boolean {
    return performance.now() < this.#until
  }

  /** Holds it for weak no more. */
  forget(): void {
    this.#until = -Infinity
  }

  /** So many bytes came. */
  spend(received: number): void {
    this.#last.received += received
  }

  /** Looks how it was since the last time. `below`: what is weak, bytes a second; null: nothing is. */
  look(isAwaited: boolean, below: number | null): void {
    const { isAwaited: wasAwaited, received, at } = this.#last
    const now = performance.now()
    this.#last = { isAwaited, received: 0, at: now }
    const isSlow =
      below !== null && wasAwaited && isAwaited && received / ((now - at) / 1_000) < below
    this.#slow = isSlow ? this.#slow + 1 : 0
    if (this.#slow < SLOW) return
    this.#slow = 0
    this.#until = now + WEAK_FOR
  }
}
