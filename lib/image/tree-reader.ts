import { chunkId, pageHash } from '../chunk/id.js'
import { ParcelError } from '../errors.js'
import { entryIds, type Entry, type Place } from '../format/entry.js'
import { chunkCount, chunkLength, SUBPAGE_SIZE, type Chunking } from '../format/limits.js'
import { decodeIdPage, decodePlacePage, type IdPage, type PlacePage } from '../format/page.js'
import { bitCount, pageMask, pageStarts } from './chunk-pages.js'
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
  const items = await Promise.all(ids.map((id, i) => readItem(source, places[i], id, chunking)))
  const [base, ...patches] = items
  if (base?.byteLength !== length) throw damaged('a chunk of another length')
  if (entry.kind === 'chunk') return base
  const patched = Buffer.from(base)
  for (const [i, { mask }] of entry.patches.entries()) applyPatch(patched, mask, patches[i])
  return patched
}

/**
 * Which items some pages of a chunk come from: numbers of patches, newest first, each with its share
 * of the pages, and what is left for the base.
 */
export function patchesOf(
  entry: Entry,
  pages: number
): { patches: { at: number; share: number }[]; rest: number } {
  const found: { at: number; share: number }[] = []
  let rest = pages
  const patches = entry.kind === 'patched' ? entry.patches : []
  for (let at = patches.length - 1; at >= 0; at--) {
    const share = rest & (patches[at]?.mask ?? 0)
    if (share !== 0) found.push({ at, share })
    rest &= ~share
  }
  return { patches: found, rest }
}

/**
 * A stretch of a patched chunk, out of the items alone that its pages come from, so that the others
 * need not be here; verified against their ids. null: the chunk is not a patched one.
 */
export async function readPatched(
  source: ItemSource,
  { entry, places }: LeafEntry,
  { length, chunking }: { length: number; chunking: Chunking },
  { start, end }: { start: number; end: number }
): Promise<Buffer | null> {
  if (entry.kind !== 'patched') return null
  const all = pageMask(0, length)
  const { patches, rest } = patchesOf(entry, pageMask(start, end))
  const wanted = patches.map(({ at, share }) => {
    const { mask, id } = entry.patches[at] ?? { mask: 0, id: Buffer.alloc(0) }
    return { mask, id, share, place: places[at + 1] }
  })
  if (rest !== 0) wanted.push({ mask: all, id: entry.base, share: rest, place: places[0] })
  const parts = await Promise.all(
    wanted.map(async ({ mask, id, share, place }) => {
      const bytes = await readItem(source, place, id, chunking)
      if (bytes.byteLength !== patchLength(mask, length)) {
        throw damaged('a part of a chunk of another length')
      }
      return { mask, share, bytes }
    })
  )
  const [one] = parts
  if (one !== undefined && parts.length === 1) {
    const from = placeIn(one.mask, start)
    return one.bytes.subarray(from, from + end - start)
  }
  const into = Buffer.alloc(end - start)
  for (const { mask, share, bytes } of parts) {
    for (const page of pageStarts(share)) {
      const [from, to] = [Math.max(page, start), Math.min(page + SUBPAGE_SIZE, end)]
      const at = placeIn(mask, from)
      bytes.copy(into, from - start, at, at + to - from)
    }
  }
  return into
}

/** Where in a patch a byte of its chunk is. */
function placeIn(mask: number, offset: number): number {
  const page = Math.floor(offset / SUBPAGE_SIZE)
  return bitCount(mask & (2 ** page - 1)) * SUBPAGE_SIZE + (offset % SUBPAGE_SIZE)
}

/** A chunk or a patch, verified against its id. Throws INTEGRITY, and what `source` throws. */
export async function readItem(
  source: ItemSource,
  place: Place | undefined,
  id: Buffer,
  chunking: Chunking
): Promise<Buffer> {
  if (place === undefined) throw damaged('an entry lacks a place')
  const bytes = await source.read(place, id)
  if (!id.equals(chunkId(bytes, chunking))) throw damaged('a chunk does not have its id')
  return bytes
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

/** Puts a patch over a chunk. Throws INTEGRITY for one of another length. */
export function applyPatch(chunk: Buffer, mask: number, patch: Buffer | undefined): void {
  if (patch === undefined || patch.byteLength !== patchLength(mask, chunk.byteLength)) {
    throw damaged('a patch of another length')
  }
  let at = 0
  for (const start of pageStarts(mask)) {
    const end = Math.min(start + SUBPAGE_SIZE, chunk.byteLength)
    chunk.set(patch.subarray(at, at + end - start), start)
    at += end - start
  }
}

/** Bytes of a patch of a chunk of `length`. Throws INTEGRITY for pages behind its end. */
function patchLength(mask: number, length: number): number {
  let bytes = 0
  for (const start of pageStarts(mask)) {
    if (start >= length) throw damaged('a patch of another length')
    bytes += Math.min(SUBPAGE_SIZE, length - start)
  }
  return bytes
}

function damaged(why: string): ParcelError {
  return new ParcelError('INTEGRITY', `this version is damaged: ${why}`)
}
