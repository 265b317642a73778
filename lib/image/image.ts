import { CHUNK_SIZE, chunkLength, SUBPAGE_SIZE } from '../format/limits.js'
import { CHUNK_PAGES, pageMask } from './chunk-pages.js'
import type { ItemSource } from './items.js'
import type { Overlay } from './overlay.js'
import { RangeLock } from './range-lock.js'
import type { TreeLookup } from './tree-lookup.js'
import { readChunk, readPatched } from './tree-reader.js'

/** Verified chunks kept: neighbours are asked for next. Each may hold a pack of 1 MiB. */
const CACHED = 32

/** A stretch of an image, for who asks where something is. */
export interface Stretch {
  length: number
  /** Nothing stands there: it reads as zeros. */
  isHole: boolean
}

/**
 * A file of a version that can be read and written anywhere: what was written is in the overlay,
 * by pages of 4 KiB, and everything else in the version, by chunks. A chunk, or a patch of it, is
 * fetched when something of it is read and checked before any of it is given out; a write of whole
 * pages fetches nothing.
 */
export class Image {
  readonly #base: TreeLookup | null
  readonly #source: ItemSource
  readonly #overlay: Overlay
  readonly #lock = new RangeLock()
  readonly #chunks = new Map<number, Promise<Buffer | null>>()
  readonly #onTouch: (chunk: number, pages: number) => void

  /** `base` null: a file that no version has. `onTouch` is told of pages of a chunk of the version, as a mask, when they are read. */
  constructor(
    base: TreeLookup | null,
    source: ItemSource,
    overlay: Overlay,
    onTouch: (chunk: number, pages: number) => void = () => {}
  ) {
    this.#base = base
    this.#source = source
    this.#overlay = overlay
    this.#onTouch = onTouch
  }

  /** Bytes. */
  get size(): number {
    return this.#overlay.size
  }

  /** Bytes that were written since the version, in whole pages. */
  get dirtyBytes(): number {
    const { written, zeroed } = this.#overlay
    return (written.count + zeroed.count) * SUBPAGE_SIZE
  }

  /** Reads what is there of a range: less behind the end. Throws INTEGRITY, UNREACHABLE. */
  async read(offset: number, length: number): Promise<Buffer> {
    const end = Math.min(offset + length, this.size)
    if (end <= offset) return Buffer.alloc(0)
    // The most frequent case by far, without a copy: within one chunk of the version.
    const chunk = Math.floor(offset / CHUNK_SIZE)
    if (end <= (chunk + 1) * CHUNK_SIZE && this.#isBase(offset, end)) {
      const start = offset - chunk * CHUNK_SIZE
      const bytes = await this.#ofChunk(chunk, start, start + end - offset)
      if (bytes?.byteLength === end - offset) return bytes
    }
    const into = Buffer.alloc(end - offset)
    const parts: Promise<void>[] = []
    for (let at = offset; at < end;) {
      const next = this.#endOfPart(at, end)
      parts.push(this.#readPart(into.subarray(at - offset, next - offset), at))
      at = next
    }
    await Promise.all(parts)
    return into
  }

  /** Writes within the image's size. What is acknowledged survives the end of this process. */
  async write(offset: number, bytes: Buffer): Promise<void> {
    const end = offset + bytes.byteLength
    if (offset < 0 || end > this.size) throw new RangeError('a write behind the end of an image')
    if (bytes.byteLength === 0) return
    const [first, last] = [pageOf(offset), pagesTo(end)]
    await this.#lock.run(first, last, async () => {
      // The whole pages within, and a page at each end that is only partly written.
      const from = pagesTo(offset)
      const to = end === this.size ? last : pageOf(end)
      if (from > first) await this.#fill(first)
      if (to < last && (last - 1 !== first || from === first)) await this.#fill(last - 1)
      if (from >= to) {
        await this.#overlay.writeWithin(offset, bytes)
        return
      }
      const [start, stop] = [from * SUBPAGE_SIZE, Math.min(to * SUBPAGE_SIZE, end)]
      if (start > offset) {
        await this.#overlay.writeWithin(offset, bytes.subarray(0, start - offset))
      }
      await this.#overlay.write(start, bytes.subarray(start - offset, stop - offset))
      if (stop < end) await this.#overlay.writeWithin(stop, bytes.subarray(stop - offset))
    })
  }

  /** Makes a range zero, without storing zeros. */
  async zero(offset: number, length: number): Promise<void> {
    const end = offset + length
    if (offset < 0 || end > this.size) throw new RangeError('a write behind the end of an image')
    const from = pagesTo(offset)
    const to = end === this.size ? pagesTo(end) : pageOf(end)
    if (from >= to) {
      await this.write(offset, Buffer.alloc(length))
      return
    }
    if (from * SUBPAGE_SIZE > offset) {
      await this.write(offset, Buffer.alloc(from * SUBPAGE_SIZE - offset))
    }
    await this.#lock.run(from, to, () => this.#overlay.zero(from, to))
    if (to * SUBPAGE_SIZE < end) {
      await this.write(to * SUBPAGE_SIZE, Buffer.alloc(end - to * SUBPAGE_SIZE))
    }
  }

  /** Cuts the image, or makes it longer by zeros. */
  async resize(size: number): Promise<void> {
    if (size === this.size) return
    await this.#lock.run(0, Infinity, async () => {
      // Of the page that is cut, what was behind the end must read as zero if it comes back.
      const end = Math.min(size, this.size)
      if (end % SUBPAGE_SIZE !== 0) await this.#fill(pageOf(end))
      await this.#overlay.resize(size)
    })
  }

  /** Puts all that was written on stable storage. */
  flush(): Promise<void> {
    return this.#overlay.flush()
  }

  /** What lies in a range, in order, cut to it. Reads pages of the trees, no contents. */
  async stretches(offset: number, length: number): Promise<Stretch[]> {
    const end = Math.min(offset + length, this.size)
    const found: Stretch[] = []
    for (let at = offset; at < end;) {
      const { isHole, end: next } = await this.#alike(at, this.#endOfPart(at, end))
      const last = found.at(-1)
      if (last?.isHole === isHole) last.length += next - at
      else found.push({ length: next - at, isHole })
      at = next
    }
    return found
  }

  close(): Promise<void> {
    return this.#overlay.close()
  }

  /** Where the state of the pages at `at` ends, or its chunk. */
  #endOfPart(at: number, end: number): number {
    const page = pageOf(at)
    const limit = pagesTo(end)
    const { written, zeroed } = this.#overlay
    const isOverlay = written.has(page) || zeroed.has(page)
    const chunk = Math.floor(page / CHUNK_PAGES) + 1
    const stop = Math.min(
      written.endOfRun(page, limit),
      zeroed.endOfRun(page, limit),
      isOverlay ? limit : chunk * CHUNK_PAGES
    )
    return Math.min(stop * SUBPAGE_SIZE, end)
  }

  #isBase(offset: number, end: number): boolean {
    const { written, zeroed } = this.#overlay
    const [first, last] = [pageOf(offset), pagesTo(end)]
    if (written.count > 0 && (written.has(first) || written.endOfRun(first, last) < last)) {
      return false
    }
    return zeroed.count === 0 || (!zeroed.has(first) && zeroed.endOfRun(first, last) >= last)
  }

  async #readPart(into: Buffer, at: number): Promise<void> {
    const page = pageOf(at)
    if (this.#overlay.zeroed.has(page)) return
    if (this.#overlay.written.has(page)) {
      await this.#overlay.read(into, at)
      return
    }
    const chunk = Math.floor(at / CHUNK_SIZE)
    const start = at - chunk * CHUNK_SIZE
    const bytes = await this.#ofChunk(chunk, start, start + into.byteLength)
    // Behind the end of the version's file there is nothing to copy: zeros.
    bytes?.copy(into)
  }

  /** Whether there is a hole at `at`, and how far, at most to the end of the part, that is so. */
  async #alike(at: number, part: number): Promise<{ isHole: boolean; end: number }> {
    const page = pageOf(at)
    if (this.#overlay.written.has(page)) return { isHole: false, end: part }
    if (this.#overlay.zeroed.has(page)) return { isHole: true, end: part }
    const chunk = Math.floor(page / CHUNK_PAGES)
    const entry = (await this.#base?.entry(chunk))?.entry ?? null
    if (entry === null || entry.kind === 'hole' || entry.kind === 'zero') {
      return { isHole: true, end: part }
    }
    if (entry.kind !== 'chunk') return { isHole: false, end: part }
    const { holes } = entry
    const isIn = (n: number): boolean => (holes & (1 << n)) !== 0
    let next = page % CHUNK_PAGES
    const isHole = isIn(next)
    while (next < CHUNK_PAGES && isIn(next) === isHole) next++
    return { isHole, end: Math.min((chunk * CHUNK_PAGES + next) * SUBPAGE_SIZE, part) }
  }

  /** Makes a page one of the overlay as it is, so that a part of it can be written. */
  async #fill(page: number): Promise<void> {
    if (this.#overlay.written.has(page)) return
    const start = page * SUBPAGE_SIZE
    const bytes = Buffer.alloc(Math.min(SUBPAGE_SIZE, this.size - start))
    await this.#readPart(bytes, start)
    await this.#overlay.write(start, bytes)
  }

  /** What the version has of a range of a chunk, less behind its end; null for a hole. */
  async #ofChunk(index: number, start: number, end: number): Promise<Buffer | null> {
    this.#onTouch(index, pageMask(start, end))
    const known = this.#chunks.get(index)
    if (known === undefined) {
      const part = await this.#ofPatched(index, start, end)
      if (part !== null) return part
    }
    return (await this.#chunk(index))?.subarray(start, end) ?? null
  }

  /** null: it is no patched chunk. */
  async #ofPatched(index: number, start: number, end: number): Promise<Buffer | null> {
    const entry = (await this.#base?.entry(index)) ?? null
    if (this.#base === null || entry === null) return null
    const { size, chunking } = this.#base.tree
    const length = chunkLength(size, index)
    const range = { start, end: Math.min(end, length) }
    if (range.end <= start) return null
    return readPatched(this.#source, entry, { length, chunking }, range)
  }

  #chunk(index: number): Promise<Buffer | null> {
    const known = this.#chunks.get(index)
    this.#chunks.delete(index)
    const chunk = known ?? this.#read(index)
    this.#chunks.set(index, chunk)
    if (known === undefined) {
      chunk.catch(() => this.#chunks.delete(index))
      const oldest = this.#chunks.size > CACHED ? this.#chunks.keys().next().value : undefined
      if (oldest !== undefined) this.#chunks.delete(oldest)
    }
    return chunk
  }

  async #read(index: number): Promise<Buffer | null> {
    const entry = (await this.#base?.entry(index)) ?? null
    if (this.#base === null || entry === null) return null
    const { size, chunking } = this.#base.tree
    return readChunk(this.#source, entry, { length: chunkLength(size, index), chunking })
  }
}

function pageOf(offset: number): number {
  return Math.floor(offset / SUBPAGE_SIZE)
}

function pagesTo(offset: number): number {
  return Math.ceil(offset / SUBPAGE_SIZE)
}
