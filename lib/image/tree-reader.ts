import { chunkId, pageHash } from '../chunk/id.js'
import { ParcelError } from '../errors.js'
import { entryIds, type Entry, type Place } from '../format/entry.js'
import { chunkCount, chunkLength, SUBPAGE_SIZE, type Chunking } from '../format/limits.js'
import { decodeIdPage, decodePlacePage, type IdPage, type PlacePage } from '../format/page.js'
import type { ItemSource } from './items.js'
import { heightOf, spanOf } from './shape.js'

export interface LeafEntry {
  entry: Entry
  /** Where each item of the entry is, in the order of `entryIds`. */
  places: Place[]
}

/** A run of entries of a file; `entries` is null for a run of holes that has no page. */
export interface Leaf {
  /** Index of the first chunk. */
  first: number
  count: number
  entries: LeafEntry[] | null
}

/** A page of a file's trees with all that is below it; `hash` null: a run of holes that has no page. */
export interface Subtree {
  hash: Buffer | null
  place: Place | null
}

/** The trees of a file of a version. */
export interface FileTree {
  /** Bytes. */
  size: number
  chunking: Chunking
  root: Buffer | null
  /** Where the top place page is. */
  place: Place | null
}

/**
 * Walks a file's trees, leaf by leaf, in order. Every id page is checked against the hash that
 * names it, from the signed root down; place pages are hints, and a wrong one shows as a chunk
 * that does not have its id. Throws INTEGRITY, UNREACHABLE.
 */
export async function* leaves(
  source: ItemSource,
  tree: Omit<FileTree, 'chunking'>
): AsyncGenerator<Leaf> {
  const count = chunkCount(tree.size)
  if (count === 0) return
  const top = { hash: tree.root, place: tree.place }
  yield* below(source, top, { level: heightOf(count), first: 0, count })
}

async function* below(
  source: ItemSource,
  subtree: Subtree,
  range: { level: number; first: number; count: number }
): AsyncGenerator<Leaf> {
  const { level, first, count } = range
  if (subtree.hash === null) {
    yield { first, count, entries: null }
  } else if (level === 0) {
    yield { first, count, entries: await readLeaf(source, subtree, count) }
  } else {
    const span = spanOf(level - 1)
    for (const [i, child] of (await readInner(source, subtree, level, count)).entries()) {
      const left = Math.min(span, count - i * span)
      yield* below(source, child, { level: level - 1, first: first + i * span, count: left })
    }
  }
}

/** The `count` entries of a leaf that has a page. Throws INTEGRITY, UNREACHABLE. */
export async function readLeaf(
  source: ItemSource,
  subtree: Subtree,
  count: number
): Promise<LeafEntry[]> {
  const { page, places } = await readPages(source, subtree)
  if (page.level !== 0 || places.level !== 0) throw damaged('a page of another height')
  if (page.entries.length !== count || places.items.length !== count) {
    throw damaged('a leaf of another length')
  }
  const items = places.items
  return page.entries.map((entry, i) => ({ entry, places: items[i] ?? [] }))
}

/** The children of a page of `level` over `count` chunks. Throws INTEGRITY, UNREACHABLE. */
export async function readInner(
  source: ItemSource,
  subtree: Subtree,
  level: number,
  count: number
): Promise<Subtree[]> {
  const { page, places } = await readPages(source, subtree)
  if (page.level === 0 || places.level === 0) throw damaged('a page of another height')
  if (page.level !== level || places.level !== level) throw damaged('a page of another height')
  const expected = Math.ceil(count / spanOf(level - 1))
  if (page.children.length !== expected || places.children.length !== expected) {
    throw damaged('a page of another length')
  }
  const known = places.children
  return page.children.map((hash, i) => ({ hash, place: known[i] ?? null }))
}

async function readPages(
  source: ItemSource,
  { hash, place }: Subtree
): Promise<{ page: IdPage; places: PlacePage }> {
  if (place === null) throw damaged('a page has no place')
  const places = decodePlacePage(await source.read(place))
  const bytes = await source.read(places.idPage, hash ?? undefined)
  if (hash?.equals(pageHash(bytes)) !== true) throw damaged('a page does not have its hash')
  return { page: decodeIdPage(bytes), places }
}

/** The bytes of one chunk, verified against its ids; null for a hole. Zeros are made here. */
export async function readChunk(
  source: ItemSource,
  { entry, places }: LeafEntry,
  { length, chunking }: { length: number; chunking: Chunking }
): Promise<Buffer | null> {
  if (entry.kind === 'hole') return null
  if (entry.kind === 'zero') return Buffer.alloc(length)
  const ids = entryIds(entry)
  if (places.length !== ids.length) throw damaged('an entry lacks a place')
  const items = await Promise.all(
    places.map(async (place, i) => {
      const bytes = await source.read(place, ids[i])
      if (ids[i]?.equals(chunkId(bytes, chunking)) !== true)
        throw damaged('a chunk does not have its id')
      return bytes
    })
  )
  const [base, ...patches] = items
  if (base?.byteLength !== length) throw damaged('a chunk of another length')
  if (entry.kind === 'chunk') return base
  const patched = Buffer.from(base)
  for (const [i, patch] of entry.patches.entries()) apply(patched, patch.mask, patches[i])
  return patched
}

/** Reads a whole stream of bytes that was stored as chunks, such as a file table. */
export async function* readStream(source: ItemSource, tree: FileTree): AsyncGenerator<Buffer> {
  const { chunking } = tree
  for await (const leaf of leaves(source, tree)) {
    for (let i = 0; i < leaf.count; i++) {
      const length = chunkLength(tree.size, leaf.first + i)
      const entry = leaf.entries?.[i]
      const chunk =
        entry === undefined ? null : await readChunk(source, entry, { length, chunking })
      yield chunk ?? Buffer.alloc(length)
    }
  }
}

function apply(chunk: Buffer, mask: number, patch: Buffer | undefined): void {
  let at = 0
  for (let page = 0; page < 16; page++) {
    if ((mask & (1 << page)) === 0) continue
    const start = page * SUBPAGE_SIZE
    const end = Math.min(start + SUBPAGE_SIZE, chunk.byteLength)
    const bytes = patch?.subarray(at, at + end - start)
    if (end <= start || bytes?.byteLength !== end - start)
      throw damaged('a patch of another length')
    chunk.set(bytes, start)
    at += end - start
  }
  if (at !== patch?.byteLength) throw damaged('a patch of another length')
}

function damaged(why: string): ParcelError {
  return new ParcelError('INTEGRITY', `this version is damaged: ${why}`)
}
