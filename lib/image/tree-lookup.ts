import { chunkCount } from '../format/limits.js'
import type { ItemSource } from './items.js'
import { heightOf, spanOf } from './shape.js'
import { readInner, readLeaf, type FileTree, type LeafEntry, type Subtree } from './tree-reader.js'

/** Leaves kept: 128 chunks each, so as many as 4 GiB of a file have. */
const LEAVES = 512

/**
 * A file's trees, asked for single chunks in any order. Pages are read when they are needed, each
 * once for all who ask meanwhile, and kept.
 */
export class TreeLookup {
  readonly tree: FileTree
  readonly #source: ItemSource
  readonly #count: number
  readonly #height: number
  readonly #inner = new Map<string, Promise<Subtree[]>>()
  readonly #leaves = new Map<number, Promise<LeafEntry[] | null>>()

  constructor(source: ItemSource, tree: FileTree) {
    this.#source = source
    this.tree = tree
    this.#count = chunkCount(tree.size)
    this.#height = heightOf(this.#count)
  }

  /** What stands at a chunk; null for a hole. Throws INTEGRITY, UNREACHABLE. */
  async entry(chunk: number): Promise<LeafEntry | null> {
    if (chunk >= this.#count) return null
    const first = chunk - (chunk % spanOf(0))
    const one = (await this.#leaf(first))?.[chunk - first]
    return one === undefined || one.entry.kind === 'hole' ? null : one
  }

  #leaf(first: number): Promise<LeafEntry[] | null> {
    const known = this.#leaves.get(first)
    this.#leaves.delete(first)
    const leaf = known ?? this.#readLeaf(first)
    this.#leaves.set(first, leaf)
    if (known === undefined) {
      leaf.catch(() => this.#leaves.delete(first))
      const oldest = this.#leaves.size > LEAVES ? this.#leaves.keys().next().value : undefined
      if (oldest !== undefined) this.#leaves.delete(oldest)
    }
    return leaf
  }

  async #readLeaf(first: number): Promise<LeafEntry[] | null> {
    const subtree = await this.#subtree(0, first)
    if (subtree.hash === null) return null
    return readLeaf(this.#source, subtree, Math.min(spanOf(0), this.#count - first))
  }

  async #subtree(level: number, first: number): Promise<Subtree> {
    if (level === this.#height) return { hash: this.tree.root, place: this.tree.place }
    const span = spanOf(level + 1)
    const start = first - (first % span)
    const children = await this.#children(level + 1, start)
    return children[(first - start) / spanOf(level)] ?? { hash: null, place: null }
  }

  #children(level: number, first: number): Promise<Subtree[]> {
    const name = `${level}/${first}`
    let children = this.#inner.get(name)
    if (children === undefined) {
      children = this.#readChildren(level, first)
      children.catch(() => this.#inner.delete(name))
      this.#inner.set(name, children)
    }
    return children
  }

  async #readChildren(level: number, first: number): Promise<Subtree[]> {
    const subtree = await this.#subtree(level, first)
    if (subtree.hash === null) return []
    return readInner(this.#source, subtree, level, Math.min(spanOf(level), this.#count - first))
  }
}
