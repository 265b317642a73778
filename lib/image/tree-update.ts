import type { Entry, Place } from '../format/entry.js'
import type { BaseTree } from './base-tree.js'
import type { TreeWriter } from './tree-writer.js'

/**
 * Writes a file's trees in order, beside those of an earlier version: runs of chunks that are the
 * same as there are taken over, whole pages at a time where they can be.
 */
export class TreeUpdate {
  readonly #tree: TreeWriter
  readonly #base: BaseTree | null
  /** Chunks of the file. */
  readonly #total: number
  /** Chunks behind the tree's end that are as they were. */
  #same = 0

  constructor(tree: TreeWriter, base: BaseTree | null, total: number) {
    this.#tree = tree
    this.#base = base
    this.#total = total
  }

  /** What the next `count` entries were; null for a hole, or where the file had not got so far. */
  async was(count: number): Promise<readonly (Entry | null)[]> {
    const first = this.#tree.count + this.#same
    const entries = await this.#base?.entries(first, count)
    return entries ?? Array.from({ length: count }, () => null)
  }

  /** The next `count` entries are as they were. */
  same(count: number): void {
    this.#same += count
  }

  /** An entry that is not, and where each of its items is. Throws INTEGRITY, UNREACHABLE. */
  async push(entry: Entry, places: (Place | Promise<Place>)[]): Promise<void> {
    if (this.#same > 0) await this.end()
    this.#tree.push(entry, places)
  }

  async pushHoles(count: number): Promise<void> {
    await this.end()
    this.#tree.pushHoles(count)
  }

  /** Takes over what is left of a run of chunks that are as they were. */
  async end(): Promise<void> {
    const to = this.#tree.count + this.#same
    this.#same = 0
    await this.#base?.copy(this.#tree, to, this.#total)
  }
}

/** Whether an entry names this chunk with these holes; `id` null: zeros. */
export function names(entry: Entry | null, id: Buffer | null, holes: number): boolean {
  if (entry?.kind === 'zero') return id === null && entry.holes === holes
  return entry?.kind === 'chunk' && id?.equals(entry.id) === true && entry.holes === holes
}
