import type { Entry } from '../format/entry.js'
import { chunkCount } from '../format/limits.js'
import type { ItemSource } from './items.js'
import { heightOf, spanOf } from './shape.js'
import { readInner, readLeaf, type FileTree, type LeafEntry, type Subtree } from './tree-reader.js'
import type { TreeWriter } from './tree-writer.js'

const HOLES: Subtree = { hash: null, place: null }

/**
 * The trees of a file as an earlier version has it, to be taken over where nothing was written
 * since. Of its pages only those are read that lead to a place where the two part. The core table
 * of the new version must begin with that of the earlier one, for places go over as they are.
 */
export class BaseTree {
  /** Bytes of the file in the earlier version. */
  readonly size: number
  readonly #source: ItemSource
  readonly #count: number
  readonly #height: number
  readonly #root: Subtree
  /** By level: the inner page that was read last. */
  readonly #inner = new Map<number, { first: number; children: Subtree[] }>()
  #leaf: { first: number; entries: LeafEntry[] | null } | null = null

  constructor(source: ItemSource, { size, root, place }: Omit<FileTree, 'chunking'>) {
    this.#source = source
    this.size = size
    this.#count = chunkCount(size)
    this.#height = heightOf(this.#count)
    this.#root = { hash: root, place }
  }

  /**
   * Continues a tree of `total` chunks with the entries that stand here, as far as chunk `to`,
   * page by page where whole pages are the same. Throws INTEGRITY, UNREACHABLE.
   */
  async copy(tree: TreeWriter, to: number, total: number): Promise<void> {
    while (tree.count < to) {
      if (to > this.#count) throw new RangeError('the earlier version has fewer chunks')
      const first = tree.count
      const level = this.#largest(first, to, total)
      if (level === null) {
        const start = first - (first % spanOf(0))
        const entries = await this.#entries(start)
        const end = Math.min(to, start + spanOf(0))
        for (let chunk = first; chunk < end; chunk++) {
          const one = entries?.[chunk - start]
          if (one === undefined || one.entry.kind === 'hole') tree.pushHoles(1)
          else tree.push(one.entry, one.places)
        }
      } else {
        const count = Math.min(spanOf(level), this.#count - first)
        tree.pushSubtree(level, count, await this.#subtree(level, first))
      }
    }
  }

  /** What stands at `count` chunks from `first` on; null for a hole, or behind the end. */
  async entries(first: number, count: number): Promise<(Entry | null)[]> {
    const found: (Entry | null)[] = []
    for (let chunk = first; chunk < first + count; chunk++) {
      const entry = (await this.at(chunk))?.entry ?? null
      found.push(entry?.kind === 'hole' ? null : entry)
    }
    return found
  }

  /** What stands at a chunk, and where; null behind the end, and where no page is. */
  async at(chunk: number): Promise<LeafEntry | null> {
    const start = chunk - (chunk % spanOf(0))
    const leaf = chunk < this.#count ? await this.#entries(start) : null
    return leaf?.[chunk - start] ?? null
  }

  /** Level of the largest page that begins at `first` and holds the same chunks in both trees. */
  #largest(first: number, to: number, total: number): number | null {
    let largest: number | null = null
    for (let level = 0; level <= this.#height && first % spanOf(level) === 0; level++) {
      const end = Math.min(first + spanOf(level), this.#count)
      if (end <= to && end === Math.min(first + spanOf(level), total)) largest = level
    }
    return largest
  }

  async #subtree(level: number, first: number): Promise<Subtree> {
    if (level === this.#height) return this.#root
    const span = spanOf(level + 1)
    const start = first - (first % span)
    const children = await this.#children(level + 1, start)
    return children[(first - start) / spanOf(level)] ?? HOLES
  }

  async #children(level: number, first: number): Promise<Subtree[]> {
    const known = this.#inner.get(level)
    if (known?.first === first) return known.children
    const subtree = await this.#subtree(level, first)
    const count = Math.min(spanOf(level), this.#count - first)
    const isHole = subtree.hash === null
    const children = isHole ? [] : await readInner(this.#source, subtree, level, count)
    this.#inner.set(level, { first, children })
    return children
  }

  /** Of the leaf that begins at `first`; null: all holes. */
  async #entries(first: number): Promise<LeafEntry[] | null> {
    if (this.#leaf?.first === first) return this.#leaf.entries
    const subtree = await this.#subtree(0, first)
    const count = Math.min(spanOf(0), this.#count - first)
    const isHole = subtree.hash === null
    const entries = isHole ? null : await readLeaf(this.#source, subtree, count)
    this.#leaf = { first, entries }
    return entries
  }
}
