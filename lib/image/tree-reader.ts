import { chunkId, pageHash } from '../chunk/id.js'
import { ParcelError } from '../errors.js'
import { entryIds, type Entry, type Place } from '../format/entry.js'
import { chunkCount, chunkLength, PAGE_FANOUT, SUBPAGE_SIZE } from '../format/limits.js'
import { decodeIdPage, decodePlacePage } from '../format/page.js'
import type { ItemSource } from './items.js'

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

/**
 * Walks a file's trees, leaf by leaf, in order. Every id page is checked against the hash that
 * names it, from the signed root down; place pages are hints, and a wrong one shows as a chunk
 * that does not have its id. Throws INTEGRITY, UNREACHABLE.
 */
export async function* leaves(
  source: ItemSource,
  tree: { size: number; root: Buffer | null; place: Place | null }
): AsyncGenerator<Leaf> {
  const count = chunkCount(tree.size)
  if (count === 0) return
  let span = PAGE_FANOUT
  let level = 0
  while (span < count) {
    span *= PAGE_FANOUT
    level++
  }
  yield* subtree(source, level, tree.root, tree.place, 0, count)
}

async function* subtree(
  source: ItemSource,
  level: number,
  hash: Buffer | null,
  place: Place | null,
  first: number,
  count: number
): AsyncGenerator<Leaf> {
  if (hash === null) {
    yield { first, count, entries: null }
    return
  }
  if (place === null) throw damaged('a page has no place')
  const places = decodePlacePage(await source.read(place))
  const bytes = await source.read(places.idPage)
  if (!pageHash(bytes).equals(hash)) throw damaged('a page does not have its hash')
  const page = decodeIdPage(bytes)
  if (page.level !== level || places.level !== level) throw damaged('a page of another height')
  if (page.level === 0 && places.level === 0) {
    if (page.entries.length !== count || places.items.length !== count) {
      throw damaged('a leaf of another length')
    }
    const items = places.items
    yield {
      first,
      count,
      entries: page.entries.map((entry, i) => ({ entry, places: items[i] ?? [] }))
    }
    return
  }
  if (page.level === 0 || places.level === 0) throw damaged('a page of another height')
  const span = PAGE_FANOUT ** level
  const expected = Math.ceil(count / span)
  if (page.children.length !== expected || places.children.length !== expected) {
    throw damaged('a page of another length')
  }
  for (const [i, child] of page.children.entries()) {
    const left = Math.min(span, count - i * span)
    yield* subtree(source, level - 1, child, places.children[i] ?? null, first + i * span, left)
  }
}

/** The bytes of one chunk, verified against its ids; null for a hole. Zeros are made here. */
export async function readChunk(
  source: ItemSource,
  { entry, places }: LeafEntry,
  length: number
): Promise<Buffer | null> {
  if (entry.kind === 'hole') return null
  if (entry.kind === 'zero') return Buffer.alloc(length)
  const ids = entryIds(entry)
  if (places.length !== ids.length) throw damaged('an entry lacks a place')
  const items = await Promise.all(
    places.map(async (place, i) => {
      const bytes = await source.read(place)
      if (ids[i]?.equals(chunkId(bytes)) !== true) throw damaged('a chunk does not have its id')
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
export async function* readStream(
  source: ItemSource,
  tree: { size: number; root: Buffer | null; place: Place | null }
): AsyncGenerator<Buffer> {
  for await (const leaf of leaves(source, tree)) {
    for (let i = 0; i < leaf.count; i++) {
      const length = chunkLength(tree.size, leaf.first + i)
      const entry = leaf.entries?.[i]
      const chunk = entry === undefined ? null : await readChunk(source, entry, length)
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
