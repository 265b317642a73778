/**
 * Work that goes on side by side, its results taken in the order in which it was begun. Not more
 * than `size` are under way; when there is a failure, all of them have settled before it is thrown.
 */
export class OrderedWindow<T> {
  readonly #size: number
  readonly #take: (result: T) => Promise<void>
  readonly #queue: Promise<T>[] = []

  constructor(size: number, take: (result: T) => Promise<void>) {
    this.#size = size
    this.#take = take
  }

  /** Has `fill` push work, and waits for all of it. */
  async run(fill: () => Promise<void>): Promise<void> {
    try {
      await fill()
      await this.#drain(0)
    } catch (error) {
      await Promise.allSettled(this.#queue.splice(0))
      throw error
    }
  }

  /** Adds work that has begun, within `run`; `alone`: waits until it, and all before it, are done. */
  async push(work: Promise<T>, alone = false): Promise<void> {
    work.catch(() => {})
    this.#queue.push(work)
    await this.#drain(alone ? 0 : this.#size - 1)
  }

  async #drain(left: number): Promise<void> {
    while (this.#queue.length > left) {
      const next = this.#queue[0]
      if (next === undefined) return
      await this.#take(await next)
      void this.#queue.shift()
    }
  }
}
