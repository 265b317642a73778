import type { Place } from '../format/entry.js'
import { chunkCount, chunkLength, SUBPAGE_SIZE } from '../format/limits.js'
import { bitCount } from './chunk-pages.js'
import type { ItemSource } from './items.js'
import { heightOf, spanOf } from './shape.js'
import { readInner, readLeaf, type FileTree, type Subtree } from './tree-reader.js'

/** Where a chunk or a patch is, and its length in bytes. */
export interface Item {
  place: Place
  length: number
}

/**
 * Where all that a file consists of is, leaf by leaf, in order; its pages are where `source` is asked for
 * them. Nothing below a page is looked at for which `isNew` is false. Throws INTEGRITY, and what `source`
 * throws.
 */
export async function* treeItems(
  source: ItemSource,
  { size, root, place }: Omit<FileTree, 'chunking'>,
  isNew: (page: Place) => boolean
): AsyncGenerator<Item[]> {
  const count = chunkCount(size)
  if (count === 0) return
  const top = { subtree: { hash: root, place }, level: heightOf(count), first: 0, count }
  yield* below(source, top, { size, isNew })
}

async function* below(
  source: ItemSource,
  {
    subtree,
    level,
    first,
    count
  }: { subtree: Subtree; level: number; first: number; count: number },
  file: { size: number; isNew: (page: Place) => boolean }
): AsyncGenerator<Item[]> {
  const { hash, place } = subtree
  if (hash === null || place === null || !file.isNew(place)) return
  if (level > 0) {
    const span = spanOf(level - 1)
    for (const [i, child] of (await readInner(source, subtree, level, count)).entries()) {
      const left = { first: first + i * span, count: Math.min(span, count - i * span) }
      yield* below(source, { subtree: child, level: level - 1, ...left }, file)
    }
    return
  }
  const items: Item[] = []
  for (const [i, { entry, places }] of (await readLeaf(source, subtree, count)).entries()) {
    const patches = entry.kind === 'patched' ? entry.patches : []
    const lengths = patches.map(({ mask }) => bitCount(mask) * SUBPAGE_SIZE)
    for (const [n, length] of [chunkLength(file.size, first + i), ...lengths].entries()) {
      const at = places[n]
      if (at !== undefined) items.push({ place: at, length })
    }
  }
  yield items
}
