import { ParcelError } from '../errors.js'
import { chunkCount } from '../format/limits.js'
import type { ItemSource } from './items.js'
import { heightOf, spanOf } from './shape.js'
import { readInner, readLeaf, type FileTree, type LeafEntry, type Subtree } from './tree-reader.js'

/** A run of chunks of a file; `entries` is null for holes that have no page, 'lost' for a page that cannot be read. */
export interface LossyLeaf {
  first: number
  count: number
  entries: LeafEntry[] | null | 'lost'
}

interface Range {
  level: number
  first: number
  count: number
}

/**
 * Walks a file's trees as `leaves` does, and goes on behind what cannot be read. `skip`: subtrees that
 * the caller knows.
 */
export async function* lossyLeaves(
  source: ItemSource,
  tree: Omit<FileTree, 'chunking'>,
  skip: (subtree: Subtree) => boolean = () => false
): AsyncGenerator<LossyLeaf> {
  const count = chunkCount(tree.size)
  if (count === 0) return
  const top = { hash: tree.root, place: tree.place }
  yield* below(source, top, { level: heightOf(count), first: 0, count }, skip)
}

async function* below(
  source: ItemSource,
  subtree: Subtree,
  range: Range,
  skip: (subtree: Subtree) => boolean
): AsyncGenerator<LossyLeaf> {
  const { level, first, count } = range
  if (skip(subtree)) return
  if (subtree.hash === null) {
    yield { first, count, entries: null }
    return
  }
  if (level === 0) {
    yield { first, count, entries: (await orLost(readLeaf(source, subtree, count))) ?? 'lost' }
    return
  }
  const children = await orLost(readInner(source, subtree, level, count))
  if (children === null) {
    yield { first, count, entries: 'lost' }
    return
  }
  const span = spanOf(level - 1)
  for (const [i, child] of children.entries()) {
    const left = Math.min(span, count - i * span)
    yield* below(source, child, { level: level - 1, first: first + i * span, count: left }, skip)
  }
}

/** null for what is damaged, or not here. */
export async function orLost<T>(reading: Promise<T>): Promise<T | null> {
  try {
    return await reading
  } catch (error) {
    if (error instanceof ParcelError && ['INTEGRITY', 'UNREACHABLE'].includes(error.code))
      return null
    throw error
  }
}
