interface Waiting<T, R> {
  item: T
  resolve: (result: R) => void
  reject: (error: unknown) => void
}

export interface BatchLimits {
  items: number
  /** Sizes of them together. */
  size: number
}

/** Batches under way before the next one waits until it is full, or one of them is done. */
const BUSY = 2

/**
 * Does in one go what is asked for one by one, where the trip costs more than the work. What is asked for in
 * the same turn of the event loop goes together; while others are under way more is gathered.
 */
export class Batches<T, R> {
  readonly #run: (items: readonly T[]) => Promise<readonly R[]>
  readonly #limits: BatchLimits
  #waiting: Waiting<T, R>[] = []
  #size = 0
  #underWay = 0

  /** `run` gives a result for each item, in order; when it fails, each of them does. */
  constructor(run: (items: readonly T[]) => Promise<readonly R[]>, limits: BatchLimits) {
    this.#run = run
    this.#limits = limits
  }

  add(item: T, size: number): Promise<R> {
    if (this.#size + size > this.#limits.size && this.#waiting.length > 0) this.#send()
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject })
      this.#size += size
      if (this.#waiting.length === this.#limits.items) this.#send()
      else if (this.#waiting.length === 1) setImmediate(() => this.#sendWhenIdle())
    })
  }

  #sendWhenIdle(): void {
    if (this.#underWay < BUSY && this.#waiting.length > 0) this.#send()
  }

  #send(): void {
    const batch = this.#waiting
    this.#waiting = []
    this.#size = 0
    this.#underWay++
    void this.#settle(batch)
  }

  async #settle(batch: readonly Waiting<T, R>[]): Promise<void> {
    try {
      const results = await this.#run(batch.map(({ item }) => item))
      for (const [n, { resolve, reject }] of batch.entries()) {
        const result = results[n]
        if (result === undefined) reject(new Error('a batch gave too few results'))
        else resolve(result)
      }
    } catch (error) {
      for (const { reject } of batch) reject(error)
    } finally {
      this.#underWay--
      this.#sendWhenIdle()
    }
  }
}
