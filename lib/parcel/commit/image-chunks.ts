import { chunkId, isZero } from '../../chunk/id.js'
import { SEGMENT_SIZE } from '../../chunk/buffers.js'
import type { WorkerPool } from '../../chunk/worker-pool.js'
import { nullIfElsewhere, ParcelError } from '../../errors.js'
import { entryIds, type Entry, type Patch, type Place } from '../../format/entry.js'
import {
  CHUNK_SIZE,
  chunkLength,
  CHUNKING,
  MAX_PATCHES,
  SUBPAGE_SIZE
} from '../../format/limits.js'
import { bitCount, CHUNK_PAGES, pageMask, pageRuns, pageStarts } from '../../image/chunk-pages.js'
import type { ItemSource } from '../../image/items.js'
import type { Overlay } from '../../image/overlay.js'
import { TreeLookup } from '../../image/tree-lookup.js'
import { applyPatch, patchesOf, readItem, type LeafEntry } from '../../image/tree-reader.js'
import type { PackWriter, Stream } from '../../log/pack-writer.js'

/** A chunk of which a resume wants pages first, as masks: at once, and somewhat later. */
export interface WorkingChunk {
  chunk: number
  first: number
  later: number
}

/** A chunk as a new version has it. */
export interface StoredChunk {
  entry: Entry
  places: (Place | Promise<Place>)[]
}

export interface ImageChunksOptions {
  writer: PackWriter
  pool: WorkerPool
  stream: Stream
  /** Gives only what is on this host; throws UNREACHABLE for the rest. */
  here: ItemSource
  /** Waits for what is not. */
  anywhere: ItemSource
  /** Whether an item is in a pack of what a resume wants first. */
  isPacked: (place: Place) => boolean
}

/** Of which pages of a chunk this host knows what is in them. */
interface Known {
  bytes: Buffer
  pages: number
}

/** Overwritten chunks that are stored together. */
export const MOST_OVERWRITTEN = SEGMENT_SIZE / CHUNK_SIZE

/** With so many of a chunk's pages wanted first, all of it is. */
const MANY = 15

/** Puts the chunks of an image together, from the version it is of and from what was written, and stores them. */
export class ImageChunks {
  readonly #overlay: Overlay
  readonly #lookup: TreeLookup
  readonly #options: ImageChunksOptions
  /** What stands there as far as that is known here. */
  readonly #known: TreeLookup
  readonly #later: (() => void)[] = []

  constructor(overlay: Overlay, lookup: TreeLookup, options: ImageChunksOptions) {
    this.#overlay = overlay
    this.#lookup = lookup
    this.#known = new TreeLookup(options.here, lookup.tree)
    this.#options = options
  }

  /**
   * Stores pages of a chunk beside others that a resume wants first, as patches of it: those it
   * wants later at the next `packLater`. null when there is nothing to do.
   */
  async pack({ chunk, first, later }: WorkingChunk): Promise<StoredChunk | null> {
    const length = chunkLength(this.#overlay.size, chunk)
    const all = pageMask(0, length)
    const { own, zeroed } = this.#written(chunk, length)
    const written = own | zeroed
    // It is but a wish: nothing is waited for.
    const found = await this.#known.entry(chunk).then((base) => ({ base }), nullIfElsewhere)
    if (found === null) return null
    const { base } = found
    const { size } = this.#lookup.tree
    if (base !== null && length !== chunkLength(size, chunk)) return null
    if (written === 0 && (base === null || this.#isPacked(base, (first | later) & all))) return null
    const known = await this.#bytesOf(base, chunk, length)
    const holes = this.#holes(base, { own, zeroed }, all)
    const isWhole = known.pages === all
    if (isWhole && (holes === all || isZero(known.bytes))) return null
    const [soon, then] = [first & known.pages, later & known.pages & ~first]
    if (isWhole && (holes !== 0 || bitCount(soon | then) >= MANY)) {
      // Once more, although it may be known: it moves.
      const id = chunkId(known.bytes)
      const place = this.#options.writer.put('working', id, known.bytes)
      return { entry: { kind: 'chunk', id, holes }, places: [place] }
    }
    const parts = [
      { mask: written & ~(soon | then), stream: this.#options.stream },
      { mask: soon, stream: 'working' as const },
      { mask: then, stream: 'working' as const, isLater: true }
    ]
    const under = isWhole ? withoutPatches(base, known.bytes) : base
    if (under !== null && (!isWhole || parts[0]?.mask === 0)) {
      const patched = await this.#patched(under, known.bytes, parts)
      if (patched !== null) return patched
    }
    if (!isWhole) return null
    const id = chunkId(known.bytes)
    const whole: LeafEntry = { entry: { kind: 'chunk', id, holes: 0 }, places: [] }
    const [place] = await this.#put(id, known.bytes, this.#options.stream)
    const patched = await this.#patched(whole, known.bytes, parts.slice(1))
    return patched === null || place === undefined
      ? null
      : { ...patched, places: [place, ...patched.places] }
  }

  /** Stores what `pack` left for later. */
  packLater(): void {
    for (const put of this.#later.splice(0)) put()
  }

  /** Stores a chunk of which something was written, or which no version has. */
  async store(chunk: number): Promise<StoredChunk> {
    const { stream } = this.#options
    const length = chunkLength(this.#overlay.size, chunk)
    const all = pageMask(0, length)
    const { own, zeroed } = this.#written(chunk, length)
    const mask = own | zeroed
    const base = mask === all ? null : await this.#lookup.entry(chunk)
    let known = await this.#bytesOf(base, chunk, length)
    if (base !== null && known.pages !== all) {
      const patched = this.#mustHave(base, chunk, length)
        ? null
        : await this.#patched(base, known.bytes, [{ mask, stream }])
      if (patched !== null) return patched
      known = await this.#bytesOf(base, chunk, length, this.#options.anywhere)
    }
    return this.#whole(known.bytes, this.#holes(base, { own, zeroed }, all), stream)
  }

  /** Stores up to `MOST_OVERWRITTEN` chunks one after the other that are overwritten. */
  async storeOverwritten(chunk: number, count: number): Promise<StoredChunk[]> {
    const { pool, writer, stream } = this.#options
    const fd = await this.#overlay.descriptor()
    const segment = await pool.read(fd, chunk * CHUNK_SIZE, count * CHUNK_SIZE)
    if (segment.bytes.byteLength !== count * CHUNK_SIZE) {
      segment.release()
      // The last page of the file may end early: the rest of it is zero.
      const stored: StoredChunk[] = []
      for (let n = 0; n < count; n++) stored.push(await this.store(chunk + n))
      return stored
    }
    try {
      const ids = Array.from({ length: count }, (_, n) => segment.id(n))
      const known = await writer.find(ids)
      return ids.map((id, n) => {
        if (id === null) return { entry: { kind: 'zero', holes: 0 }, places: [] }
        const bytes = segment.bytes.subarray(n * CHUNK_SIZE, (n + 1) * CHUNK_SIZE)
        const place = known[n] ?? writer.put(stream, id, bytes)
        return { entry: { kind: 'chunk', id, holes: 0 }, places: [place] }
      })
    } finally {
      segment.release()
    }
  }

  /** Bits of the pages that were written, and of those that were made zero. */
  #written(chunk: number, length: number): { own: number; zeroed: number } {
    let [own, zeroed] = [0, 0]
    for (let page = 0; page * SUBPAGE_SIZE < length; page++) {
      if (this.#overlay.written.has(chunk * CHUNK_PAGES + page)) own |= 1 << page
      else if (this.#overlay.zeroed.has(chunk * CHUNK_PAGES + page)) zeroed |= 1 << page
    }
    return { own, zeroed }
  }

  /** A chunk that gets another length, or another name, cannot be patched. */
  #mustHave(base: LeafEntry, chunk: number, length: number): boolean {
    const { size, chunking } = this.#lookup.tree
    const isPatchable = entryIds(base.entry).length > 0 && chunking === CHUNKING
    return length !== chunkLength(size, chunk) || !isPatchable
  }

  #holes(
    base: LeafEntry | null,
    { own, zeroed }: { own: number; zeroed: number },
    all: number
  ): number {
    if (base === null) return all & ~own
    const { entry } = base
    const before = entry.kind === 'chunk' || entry.kind === 'zero' ? entry.holes & ~own : 0
    return (before | zeroed) & all
  }

  /** Whether each of the pages is in a pack of its kind already. */
  #isPacked({ entry, places }: LeafEntry, pages: number): boolean {
    const { isPacked } = this.#options
    const { patches, rest } = patchesOf(entry, pages)
    const items = [...patches.map(({ at }) => at + 1), ...(rest === 0 ? [] : [0])]
    return items.flatMap((item) => places[item] ?? []).every(isPacked)
  }

  /** What of a chunk is known here, with zeros behind the end of what the version has; with `anywhere` all of it. */
  async #bytesOf(
    base: LeafEntry | null,
    chunk: number,
    length: number,
    source: ItemSource = this.#options.here
  ): Promise<Known> {
    const bytes = Buffer.alloc(length)
    let pages =
      base === null ? pageMask(0, length) : await this.#ofVersion(base, bytes, chunk, source)
    const { own, zeroed } = this.#written(chunk, length)
    for (const start of pageStarts(zeroed)) bytes.subarray(start, start + SUBPAGE_SIZE).fill(0)
    for (const { start, end } of pageRuns(own)) {
      await this.#overlay.read(bytes.subarray(start, end), chunk * CHUNK_SIZE + start)
    }
    pages |= own | zeroed
    return { bytes, pages }
  }

  /** Puts into `bytes` what is at hand of a version's chunk; tells which pages. */
  async #ofVersion(
    { entry, places }: LeafEntry,
    bytes: Buffer,
    chunk: number,
    source: ItemSource
  ): Promise<number> {
    const { size, chunking } = this.#lookup.tree
    const all = pageMask(0, bytes.byteLength)
    const whole = Buffer.alloc(chunkLength(size, chunk))
    let pages = all
    for (const [i, id] of entryIds(entry).entries()) {
      const item = await readItem(source, places[i], id, chunking).catch(nullIfElsewhere)
      const patch = entry.kind === 'patched' && i > 0 ? entry.patches[i - 1] : undefined
      if (patch === undefined) {
        if (item === null) pages = 0
        else if (item.byteLength === whole.byteLength) item.copy(whole)
        else
          throw new ParcelError('INTEGRITY', 'this version is damaged: a chunk of another length')
      } else if (item === null) {
        pages &= ~patch.mask
      } else {
        applyPatch(whole, patch.mask, item)
        pages |= patch.mask
      }
    }
    whole.copy(bytes)
    return pages & all
  }

  async #whole(bytes: Buffer, holes: number, stream: Stream): Promise<StoredChunk> {
    const all = pageMask(0, bytes.byteLength)
    if (holes === all) return { entry: { kind: 'hole' }, places: [] }
    if (isZero(bytes)) return { entry: { kind: 'zero', holes }, places: [] }
    const id = chunkId(bytes)
    return { entry: { kind: 'chunk', id, holes }, places: await this.#put(id, bytes, stream) }
  }

  /** What the version has with pages of `bytes` over it; null when those are too many patches. */
  async #patched(
    { entry, places }: LeafEntry,
    bytes: Buffer,
    parts: readonly { mask: number; stream: Stream; isLater?: boolean }[]
  ): Promise<StoredChunk | null> {
    const [base] = entryIds(entry)
    if (base === undefined) throw new TypeError('a chunk that is not here has an id')
    const before = entry.kind === 'patched' ? entry.patches : []
    const fresh = parts.filter(({ mask }) => mask !== 0)
    if (fresh.length === 0) return { entry, places: [...places] }
    let above = fresh.reduce((sum, { mask }) => sum | mask, 0)
    // What newer patches replace as a whole is not needed any more.
    const kept: { patch: Patch; place: Place | Promise<Place> }[] = []
    for (const [i, patch] of [...before.entries()].toReversed()) {
      const place = places[i + 1]
      if (place === undefined) throw new TypeError('a place for each patch')
      if ((patch.mask & ~above) !== 0) kept.unshift({ patch, place })
      above |= patch.mask
    }
    if (kept.length + fresh.length > MAX_PATCHES) return null
    const stored: StoredChunk = {
      entry: { kind: 'patched', base, patches: kept.map(({ patch }) => patch) },
      places: [...places.slice(0, 1), ...kept.map(({ place }) => place)]
    }
    for (const { mask, stream, isLater } of fresh) {
      const patch = pagesOf(bytes, mask)
      const id = chunkId(patch)
      if (stored.entry.kind === 'patched') stored.entry.patches.push({ mask, id })
      if (isLater === true) {
        const at = stored.places.length
        const { promise, put } = this.#promised(stream, id, patch)
        stored.places[at] = promise
        this.#later.push(put)
      } else if (stream === 'working') {
        // Once more, although it may be known: it moves.
        stored.places.push(this.#options.writer.put(stream, id, patch))
      } else {
        stored.places.push(...(await this.#put(id, patch, stream)))
      }
    }
    return stored
  }

  /** A place that is known once `put` was called and its pack is full. */
  #promised(
    stream: Stream,
    id: Buffer,
    bytes: Buffer
  ): { promise: Promise<Place>; put: () => void } {
    let put = (): void => {}
    const promise = new Promise<Place>((resolve) => {
      put = () => resolve(this.#options.writer.put(stream, id, bytes))
    })
    return { promise, put }
  }

  /** In a list, or whoever awaits this would await the place, which is known when its pack is full. */
  async #put(id: Buffer, bytes: Buffer, stream: Stream): Promise<(Place | Promise<Place>)[]> {
    const { writer } = this.#options
    const [known] = await writer.find([id])
    return [known ?? writer.put(stream, id, bytes)]
  }
}

/** Whether all of a chunk was written: what was there before does not count. */
export function isOverwritten({ size, written }: Overlay, chunk: number): boolean {
  if (chunkLength(size, chunk) !== CHUNK_SIZE) return false
  const start = chunk * CHUNK_PAGES
  return written.has(start) && written.endOfRun(start, start + CHUNK_PAGES) >= start + CHUNK_PAGES
}

/** What a chunk is patched over: its base alone if its patches say nothing new; null if it has none. */
function withoutPatches(base: LeafEntry | null, bytes: Buffer): LeafEntry | null {
  const [id] = base === null ? [] : entryIds(base.entry)
  if (base === null || id === undefined) return null
  const isSame = base.entry.kind === 'patched' && id.equals(chunkId(bytes))
  return isSame ? { entry: { kind: 'chunk', id, holes: 0 }, places: base.places.slice(0, 1) } : base
}

/** Pages of a chunk, one after the other. */
function pagesOf(bytes: Buffer, mask: number): Buffer {
  return Buffer.concat(
    Array.from(pageStarts(mask), (start) => bytes.subarray(start, start + SUBPAGE_SIZE))
  )
}
