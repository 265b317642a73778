/** Pages of a map's segment: 4 KiB of bits, made when the first of them is set. */
const SEGMENT = 32_768

/** A run of pages: from `start` to before `end`. */
export interface PageRun {
  start: number
  end: number
}

/** A set of pages of a file. Takes memory for the stretches that have some, not for the file. */
export class PageMap {
  readonly #segments = new Map<number, Uint8Array>()
  /** Pages in the set. */
  count = 0

  has(page: number): boolean {
    const at = page % SEGMENT
    const byte = this.#segments.get((page - at) / SEGMENT)?.[at >> 3] ?? 0
    return (byte & (1 << (at & 7))) !== 0
  }

  /** Puts pages in; whether any of them was not. */
  add(start: number, end: number): boolean {
    const before = this.count
    for (let page = start; page < end; page++) {
      const at = page % SEGMENT
      const number = (page - at) / SEGMENT
      let bits = this.#segments.get(number)
      if (bits === undefined) {
        bits = new Uint8Array(SEGMENT / 8)
        this.#segments.set(number, bits)
      }
      const byte = bits[at >> 3] ?? 0
      if ((byte & (1 << (at & 7))) !== 0) continue
      bits[at >> 3] = byte | (1 << (at & 7))
      this.count++
    }
    return this.count > before
  }

  delete(start: number, end: number): void {
    for (let page = start; page < end; page++) {
      const at = page % SEGMENT
      const bits = this.#segments.get((page - at) / SEGMENT)
      if (bits === undefined) {
        page += SEGMENT - at - 1
        continue
      }
      const byte = bits[at >> 3] ?? 0
      if ((byte & (1 << (at & 7))) === 0) continue
      bits[at >> 3] = byte & ~(1 << (at & 7))
      this.count--
    }
  }

  clear(): void {
    this.#segments.clear()
    this.count = 0
  }

  /** The end of the run of pages that are all in the set, or all not, as `page` is. */
  endOfRun(page: number, limit: number): number {
    const isIn = this.has(page)
    let end = page + 1
    while (end < limit) {
      const at = end % SEGMENT
      const bits = this.#segments.get((end - at) / SEGMENT)
      if (bits === undefined) {
        if (isIn) break
        end += SEGMENT - at
        continue
      }
      const byte = bits[at >> 3] ?? 0
      // Whole bytes at once where they can be.
      if ((at & 7) === 0 && byte === (isIn ? 255 : 0)) end += 8
      else if (((byte & (1 << (at & 7))) !== 0) === isIn) end++
      else break
    }
    return Math.min(end, limit)
  }

  /** Ascending, apart from each other. */
  *runs(): Generator<PageRun> {
    for (const number of [...this.#segments.keys()].toSorted((a, b) => a - b)) {
      const limit = (number + 1) * SEGMENT
      for (let page = number * SEGMENT; page < limit;) {
        const end = this.endOfRun(page, limit)
        if (this.has(page)) yield { start: page, end }
        page = end
      }
    }
  }
}
