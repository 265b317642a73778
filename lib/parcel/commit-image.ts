import { chunkId, isZero } from '../chunk/id.js'
import { ParcelError } from '../errors.js'
import { entryIds, type Entry, type Place } from '../format/entry.js'
import type { FileEntry } from '../format/file-table.js'
import {
  CHUNK_SIZE,
  chunkCount,
  chunkLength,
  CHUNKING,
  MAX_PATCHES,
  SUBPAGE_SIZE
} from '../format/limits.js'
import { BaseTree } from '../image/base-tree.js'
import type { ItemSource } from '../image/items.js'
import type { Overlay } from '../image/overlay.js'
import { TreeLookup } from '../image/tree-lookup.js'
import { readChunk, type LeafEntry } from '../image/tree-reader.js'
import { TreeUpdate } from '../image/tree-update.js'
import { TreeWriter, type Tree } from '../image/tree-writer.js'
import type { PackWriter, Stream } from '../log/pack-writer.js'
import { OrderedWindow } from '../ordered-window.js'

const PAGES = CHUNK_SIZE / SUBPAGE_SIZE
/** Chunks that are put together side by side. */
const AT_ONCE = 16

export interface CommitImageOptions {
  writer: PackWriter
  stream: Stream
  /** Gives only what is on this host; throws UNREACHABLE for the rest. */
  here: ItemSource
  /** Waits for what is not: pages of trees, which a new tree cannot do without. */
  anywhere: ItemSource
  /** Chunks that a resume will want first, in that order: they are packed together. */
  working: readonly number[]
  /** Whether an item is in such a pack already. */
  isPacked: (place: Place) => boolean
  signal: AbortSignal
  onBytes: (bytes: number) => void
}

/**
 * Stores a file of a version with what was written to it since. Only chunks with such pages are
 * looked at, and of those nothing is fetched: a chunk of which only a part was written, and the
 * rest is elsewhere, becomes a patch of what the other host has.
 */
export async function commitImage(
  { entry, place }: { entry: FileEntry & { type: 'file' }; place: Place | null },
  overlay: Overlay,
  options: CommitImageOptions
): Promise<Tree> {
  const { writer, anywhere, working, signal, onBytes } = options
  const { size: before, root, chunking } = entry
  const isSameNaming = chunking === CHUNKING
  const tree = new TreeWriter(writer)
  const total = chunkCount(overlay.size)
  // Chunks that are named in another way cannot stand beside those that come now.
  const base = isSameNaming ? new BaseTree(anywhere, { size: before, root, place }) : null
  const update = new TreeUpdate(tree, base, total)
  const lookup = new TreeLookup(anywhere, { size: before, root, place, chunking })
  const chunks = new ImageChunks(overlay, lookup, options)
  const moved = new Map<number, StoredChunk>()
  if (isSameNaming) {
    for (const chunk of working) {
      signal.throwIfAborted()
      const stored = chunk < total ? await chunks.pack(chunk) : null
      if (stored !== null) moved.set(chunk, stored)
    }
  }
  let next = 0
  const window = new OrderedWindow<{ chunk: number; stored: StoredChunk }>(
    AT_ONCE,
    async ({ chunk, stored }) => {
      if (chunk > next) update.same(chunk - next)
      next = chunk + 1
      if (stored.entry.kind === 'hole') await update.pushHoles(1)
      else await update.push(stored.entry, stored.places)
      onBytes(chunkLength(overlay.size, chunk))
      await writer.ready()
    }
  )
  const changed = changedChunks(overlay, before, isSameNaming)
  for (const chunk of withAll(
    changed,
    [...moved.keys()].toSorted((a, b) => a - b)
  )) {
    signal.throwIfAborted()
    const store = async () => ({ chunk, stored: moved.get(chunk) ?? (await chunks.store(chunk)) })
    await window.push(store(), false)
  }
  await window.end()
  if (total > next) update.same(total - next)
  await update.end()
  return tree.end()
}

/** Ascending, each once. */
function* changedChunks(
  overlay: Overlay,
  before: number,
  isSameNaming: boolean
): Generator<number> {
  const total = chunkCount(overlay.size)
  const isCut = overlay.size !== before
  // From the chunk that was or becomes the last on, all have another length or no base.
  const fresh = isCut
    ? Math.floor(Math.max(0, Math.min(before, overlay.size) - 1) / CHUNK_SIZE)
    : total
  const from = isSameNaming ? fresh : 0
  let next = 0
  for (const map of merged(overlay)) {
    const end = Math.min(Math.ceil(map.end / PAGES), from)
    for (next = Math.max(next, Math.floor(map.start / PAGES)); next < end; next++) yield next
  }
  for (let chunk = Math.max(next, from); chunk < total; chunk++) yield chunk
}

/** Two ascending sequences as one, each number once. */
function* withAll(numbers: Iterable<number>, others: readonly number[]): Generator<number> {
  let n = 0
  for (const number of numbers) {
    for (let other = others[n]; other !== undefined && other <= number; other = others[++n]) {
      if (other < number) yield other
    }
    yield number
  }
  yield* others.slice(n)
}

/** Runs of pages of both maps, by where they begin. */
function* merged({ written, zeroed }: Overlay): Generator<{ start: number; end: number }> {
  const [a, b] = [written.runs(), zeroed.runs()]
  let [x, y] = [a.next(), b.next()]
  while (x.done !== true || y.done !== true) {
    if (y.done === true || (x.done !== true && x.value.start < y.value.start)) {
      if (x.done !== true) yield x.value
      x = a.next()
    } else {
      yield y.value
      y = b.next()
    }
  }
}

interface StoredChunk {
  entry: Entry
  places: (Place | Promise<Place>)[]
}

/** Puts the chunks of an image together and stores them. */
class ImageChunks {
  readonly #overlay: Overlay
  readonly #lookup: TreeLookup
  readonly #options: CommitImageOptions

  constructor(overlay: Overlay, lookup: TreeLookup, options: CommitImageOptions) {
    this.#overlay = overlay
    this.#lookup = lookup
    this.#options = options
  }

  /** Stores a chunk beside others that a resume wants first; null when there is nothing to do. */
  async pack(chunk: number): Promise<StoredChunk | null> {
    const { here, isPacked } = this.#options
    const length = chunkLength(this.#overlay.size, chunk)
    const { own, zeroed } = this.#masks(chunk, length)
    if ((own | zeroed) !== 0) return this.store(chunk, 'working')
    const base = await this.#lookup.entry(chunk)
    const ids = base === null ? [] : entryIds(base.entry)
    if (base === null || ids.length === 0 || base.places.every(isPacked)) return null
    const { size, chunking } = this.#lookup.tree
    if (length !== chunkLength(size, chunk)) return null
    const bytes = await readChunk(here, base, { length, chunking }).catch((error: unknown) => {
      if (error instanceof ParcelError && error.code === 'UNREACHABLE') return null
      throw error
    })
    if (bytes === null) return null
    // Once more, although it is known: it moves.
    const id = chunkId(bytes)
    const holes = base.entry.kind === 'chunk' ? base.entry.holes : 0
    const place = this.#options.writer.put('working', id, bytes)
    return { entry: { kind: 'chunk', id, holes }, places: [place] }
  }

  async store(chunk: number, stream: Stream = this.#options.stream): Promise<StoredChunk> {
    const length = chunkLength(this.#overlay.size, chunk)
    const { own, zeroed } = this.#masks(chunk, length)
    const all = 2 ** Math.ceil(length / SUBPAGE_SIZE) - 1
    const bytes = await this.#ownPages(chunk, length, own)
    if ((own | zeroed) === all) return this.#whole(bytes, zeroed, stream)
    const base = await this.#lookup.entry(chunk)
    if (base === null) return this.#whole(bytes, all & ~own, stream)
    const known = await this.#base(base, chunk)
    if (known === null) return this.#patch(base, bytes, own | zeroed, stream)
    for (let page = 0; page < PAGES; page++) {
      if (((own | zeroed) & (1 << page)) !== 0) continue
      const start = page * SUBPAGE_SIZE
      known.copy(bytes, start, start, Math.min(start + SUBPAGE_SIZE, length))
    }
    const kind = base.entry.kind
    const holes = kind === 'chunk' || kind === 'zero' ? base.entry.holes & ~own : 0
    return this.#whole(bytes, (holes | zeroed) & all, stream)
  }

  /** Bits of the pages that were written, and of those that were made zero. */
  #masks(chunk: number, length: number): { own: number; zeroed: number } {
    let [own, zeroed] = [0, 0]
    for (let page = 0; page * SUBPAGE_SIZE < length; page++) {
      if (this.#overlay.written.has(chunk * PAGES + page)) own |= 1 << page
      else if (this.#overlay.zeroed.has(chunk * PAGES + page)) zeroed |= 1 << page
    }
    return { own, zeroed }
  }

  /** A chunk with the written pages in it, zeros elsewhere. */
  async #ownPages(chunk: number, length: number, own: number): Promise<Buffer> {
    const bytes = Buffer.alloc(length)
    for (let page = 0; page * SUBPAGE_SIZE < length;) {
      let end = page
      while (end < PAGES && (own & (1 << end)) !== 0) end++
      if (end === page) {
        page++
        continue
      }
      const start = page * SUBPAGE_SIZE
      const part = bytes.subarray(start, Math.min(end * SUBPAGE_SIZE, length))
      await this.#overlay.read(part, chunk * CHUNK_SIZE + start)
      page = end
    }
    return bytes
  }

  /** What the version has there, with zeros behind its end; null when it is not on this host. */
  async #base(base: LeafEntry, chunk: number): Promise<Buffer | null> {
    const { here, anywhere } = this.#options
    const { size, chunking } = this.#lookup.tree
    const length = chunkLength(size, chunk)
    // A chunk that gets another length, or another name, cannot be patched.
    const mustHave = length !== chunkLength(this.#overlay.size, chunk) || chunking !== CHUNKING
    const isFull = base.entry.kind === 'patched' && base.entry.patches.length >= MAX_PATCHES
    try {
      const source = mustHave || isFull ? anywhere : here
      const bytes = await readChunk(source, base, { length, chunking })
      return bytes ?? Buffer.alloc(length)
    } catch (error) {
      if (!(error instanceof ParcelError) || error.code !== 'UNREACHABLE') throw error
      return null
    }
  }

  async #whole(bytes: Buffer, holes: number, stream: Stream): Promise<StoredChunk> {
    const all = 2 ** Math.ceil(bytes.byteLength / SUBPAGE_SIZE) - 1
    if (holes === all) return { entry: { kind: 'hole' }, places: [] }
    if (isZero(bytes)) return { entry: { kind: 'zero', holes }, places: [] }
    const id = chunkId(bytes)
    return { entry: { kind: 'chunk', id, holes }, places: await this.#put(id, bytes, stream) }
  }

  async #patch(
    { entry, places }: LeafEntry,
    bytes: Buffer,
    mask: number,
    stream: Stream
  ): Promise<StoredChunk> {
    const length = bytes.byteLength
    const parts: Buffer[] = []
    for (let page = 0; page < PAGES; page++) {
      if ((mask & (1 << page)) === 0) continue
      const start = page * SUBPAGE_SIZE
      parts.push(bytes.subarray(start, Math.min(start + SUBPAGE_SIZE, length)))
    }
    const patch = Buffer.concat(parts)
    const id = chunkId(patch)
    const [base, ...others] = entryIds(entry)
    if (base === undefined) throw new TypeError('a chunk that is not here has an id')
    const before = entry.kind === 'patched' ? entry.patches : []
    if (before.length !== others.length) throw new TypeError('an id for each patch')
    return {
      entry: { kind: 'patched', base, patches: [...before, { mask, id }] },
      places: [...places, ...(await this.#put(id, patch, stream))]
    }
  }

  /** In a list, or whoever awaits this would await the place, which is known when its pack is full. */
  async #put(id: Buffer, bytes: Buffer, stream: Stream): Promise<(Place | Promise<Place>)[]> {
    const { writer } = this.#options
    const [known] = await writer.find([id])
    return [known ?? writer.put(stream, id, bytes)]
  }
}
