import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'

/** What is on the disk is counted again after so long, ms. */
const STALE = 1_000

/**
 * How much of a disk a store may take. Its files are what counts: what they hold twice while the
 * store tidies up is taken too. Mirrors ask before they fetch; records, which are few and tell who
 * is a member, come all the same.
 */
export class Quota {
  readonly #dir: string
  #limit: number
  #used = 0
  #counted = -Infinity
  readonly #listeners = new Set<() => void>()

  /** `limit` in bytes; Infinity: as much as there is. */
  constructor(dir: string, limit: number) {
    this.#dir = dir
    this.#limit = limit
  }

  get limit(): number {
    return this.#limit
  }

  set limit(bytes: number) {
    this.#limit = bytes
    for (const listener of this.#listeners) listener()
  }

  /** Calls back when the limit is another. Returns how to stop. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Bytes of the store's files. */
  async used(): Promise<number> {
    if (performance.now() - this.#counted < STALE) return this.#used
    this.#used = await sizeOf(this.#dir)
    this.#counted = performance.now()
    return this.#used
  }

  /** Counts anew: all that was taken is on the disk. */
  settle(): void {
    this.#counted = -Infinity
  }

  /** Bytes that may still be taken. */
  async room(): Promise<number> {
    return this.#limit === Infinity ? Infinity : Math.max(this.#limit - (await this.used()), 0)
  }

  /** What was just taken counts before it is on the disk. */
  took(bytes: number): void {
    this.#used += bytes
  }
}

async function sizeOf(dir: string): Promise<number> {
  let sum = 0
  for (const name of await readdir(dir, { recursive: true }).catch(() => [])) {
    const stats = await stat(join(dir, name)).catch(() => null)
    if (stats?.isFile() === true) sum += stats.size
  }
  return sum
}
