interface Held {
  start: number
  end: number
  released: Promise<void>
}

/** Lets work on ranges that overlap go one after the other, and all other work side by side. */
export class RangeLock {
  readonly #held = new Set<Held>()

  async run<T>(start: number, end: number, work: () => Promise<T>): Promise<T> {
    for (;;) {
      const before = [...this.#held].filter((held) => held.start < end && start < held.end)
      if (before.length === 0) break
      await Promise.all(before.map(({ released }) => released))
    }
    let release = (): void => {}
    const held = { start, end, released: new Promise<void>((resolve) => (release = resolve)) }
    this.#held.add(held)
    try {
      return await work()
    } finally {
      this.#held.delete(held)
      release()
    }
  }
}
