/** A second's worth may go at once: what is sent in blocks is never smooth. */
const BURST = 1
/** Seconds at the rate, and a block, that can be owed. */
const [MOST_DEBT, LARGEST] = [10, 1_048_576]
/** It is looked again after so long, ms: a timer of more than 24 days would end at once. */
const LONGEST = 60_000

/** How many bytes a second may go one way. Who wants to send waits for a turn, in the order of asking. */
export class RateLimit {
  #rate = Infinity
  /** What went beyond the rate, and when that was counted, by `performance.now`. */
  #debt = 0
  #counted = performance.now()
  #queue: Promise<void> = Promise.resolve()
  #wake: () => void = () => {}

  /** Bytes a second; Infinity: as many as there are. */
  get rate(): number {
    return this.#rate
  }

  set rate(rate: number) {
    this.#count()
    this.#rate = rate
    this.#forgive()
    this.#wake()
  }

  /** Whether something may go now. */
  get isFree(): boolean {
    return this.#wait() === 0
  }

  /** Notes that so much went, whether it was its turn or not. */
  spend(bytes: number): void {
    this.#count()
    if (this.#rate === Infinity) return
    this.#debt += bytes
    this.#forgive()
  }

  /** What went in no turn, or at another rate, is not waited for for long. */
  #forgive(): void {
    if (this.#rate !== Infinity) this.#debt = Math.min(this.#debt, MOST_DEBT * this.#rate + LARGEST)
  }

  /** Waits until something may go again. */
  turn(): Promise<void> {
    return this.run(async () => {})
  }

  /** Runs what sends something, and has spent it when it settles, as soon as it may: one after the other. */
  async run(send: () => Promise<void>): Promise<void> {
    if (this.#rate === Infinity) return send()
    const turn = this.#queue.then(async () => {
      for (let wait = this.#wait(); wait > 0; wait = this.#wait()) await this.#sleep(wait)
      await send()
    })
    this.#queue = turn.catch(() => {})
    return turn
  }

  /** How long nothing may go, ms. */
  #wait(): number {
    this.#count()
    if (this.#rate === Infinity) return 0
    return Math.max(0, (this.#debt / this.#rate - BURST) * 1_000)
  }

  #count(): void {
    const now = performance.now()
    const paid = (this.#rate * (now - this.#counted)) / 1_000
    this.#debt = this.#rate === Infinity ? 0 : Math.max(0, this.#debt - paid)
    this.#counted = now
  }

  /** Wakes early when the rate is another. */
  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, Math.min(ms, LONGEST))
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
}
