import { createHash } from 'node:crypto'
import { constants, fstatSync, ftruncateSync, readFileSync, writeSync } from 'node:fs'
import { open, readFile, rm, stat, type FileHandle } from 'node:fs/promises'
import { basename, join } from 'node:path'
import extensions from 'fs-native-extensions'
import { nullIfAbsent, ParcelError } from '../errors.js'
import { SUBPAGE_SIZE } from '../format/limits.js'
import { PageMap } from './page-map.js'

/*
 * What was written to an image since its version, in two files. The data file has each written
 * page at the offset that it has in the image, and holes elsewhere. The journal says which pages
 * those are: a header, then records of 24 bytes, each appended after what it speaks of was written
 * and before the write is acknowledged.
 *
 *   header: "hpoverlay", format u8, 6 zeros, boot id (16 bytes), size of the image in bytes u64
 *   record: kind u8, 7 zeros, u64, u64 (little-endian)
 *     WRITTEN, ZEROED  first page, number of pages
 *     RESIZED          size in bytes, 0
 *     FLUSHED          bytes of the journal of which all is on stable storage, 0
 *
 * After the end of a process all records count, for the system has kept all that was written. When
 * the computer itself went down (another boot id), only those do that the last FLUSHED vouches for.
 */
const MAGIC = Buffer.from('hpoverlay')
const FORMAT = 1
const HEADER = 40
const RECORD = 24
const [WRITTEN, ZEROED, RESIZED, FLUSHED] = [1, 2, 3, 4]

/** The pages of an image that were written, on disk; they survive the process that wrote them. */
export class Overlay {
  /** Pages that are in the data file. */
  readonly written = new PageMap()
  /** Pages that are zero, whatever the version or the data file says. */
  readonly zeroed = new PageMap()
  /** Bytes of the image now. */
  size: number
  readonly #path: string
  readonly #originalSize: number
  readonly #isRead: boolean
  #files: { data: FileHandle; journal: FileHandle } | null = null
  #opening: Promise<{ data: FileHandle; journal: FileHandle }> | null = null
  #isFlushed = true
  #flushing: Promise<void> = Promise.resolve()

  private constructor(path: string, size: number, isRead = false) {
    this.#path = path
    this.#isRead = isRead
    this.size = size
    this.#originalSize = size
  }

  /**
   * Opens the overlay at `path` (with `path.map` beside it) of an image that has `size` bytes in its
   * version. No file is made before the first write. `isRead`: somebody else writes to it meanwhile, and
   * this one only reads what was written by now. Throws INTEGRITY for one of another image.
   */
  static async open(path: string, size: number, { isRead = false } = {}): Promise<Overlay> {
    const overlay = new Overlay(path, size, isRead)
    await overlay.#load()
    return overlay
  }

  /** Like `open`, when it is known that there are no files of it. */
  static fresh(path: string, size: number): Overlay {
    return new Overlay(path, size)
  }

  /** Of its file. */
  get name(): string {
    return basename(this.#path)
  }

  /** Whether anything was written. */
  get isDirty(): boolean {
    return this.written.count > 0 || this.zeroed.count > 0 || this.size !== this.#originalSize
  }

  /** When contents were written last, ns since 1970; null: never. */
  async writtenAt(): Promise<bigint | null> {
    if (!this.isDirty) return null
    const stats = await stat(this.#path, { bigint: true }).catch(() => null)
    return stats?.mtimeNs ?? null
  }

  /** Fills `into` with written pages; `offset` and length must lie within such. */
  async read(into: Buffer, offset: number): Promise<void> {
    const { data } = await this.#open()
    for (let at = 0; at < into.byteLength;) {
      const { bytesRead } = await data.read(into, at, into.byteLength - at, offset + at)
      // The last page of the file may end early: the rest of it is zero.
      if (bytesRead === 0) {
        into.fill(0, at)
        return
      }
      at += bytesRead
    }
  }

  /** Where written pages are at the offsets that they have in the image: for a thread that reads many. */
  async descriptor(): Promise<number> {
    return (await this.#open()).data.fd
  }

  /** Writes whole pages: `offset` is the beginning of one, the last may be cut by the image's end. */
  async write(offset: number, bytes: Uint8Array): Promise<void> {
    const start = offset / SUBPAGE_SIZE
    const end = Math.ceil((offset + bytes.byteLength) / SUBPAGE_SIZE)
    const files = await this.#open()
    await writeAll(files.data, bytes, offset)
    this.#isFlushed = false
    // Said before it is known: a record that did not get onto a full disk comes with the next try.
    if (!isAllIn(this.written, start, end)) append(files.journal, WRITTEN, start, end - start)
    this.zeroed.delete(start, end)
    this.written.add(start, end)
  }

  /** Writes bytes within pages that are written already. */
  async writeWithin(offset: number, bytes: Uint8Array): Promise<void> {
    const files = await this.#open()
    await writeAll(files.data, bytes, offset)
    this.#isFlushed = false
  }

  /** Makes pages zero, from `start` to before `end`. */
  async zero(start: number, end: number): Promise<void> {
    const { data, journal } = await this.#open()
    this.#isFlushed = false
    const before = this.written.count
    if (!isAllIn(this.zeroed, start, end)) append(journal, ZEROED, start, end - start)
    this.written.delete(start, end)
    this.zeroed.add(start, end)
    if (this.written.count === before) return
    // Its room on the disk is free again; a file system that cannot do that keeps it.
    const [offset, length] = [start * SUBPAGE_SIZE, (end - start) * SUBPAGE_SIZE]
    await extensions.trim(data.fd, offset, length).catch(() => {})
  }

  /** Pages behind the new end are forgotten. */
  async resize(size: number): Promise<void> {
    const { journal, data } = await this.#open()
    this.#isFlushed = false
    const end = Math.ceil(size / SUBPAGE_SIZE)
    const last = Math.ceil(Math.max(this.size, size) / SUBPAGE_SIZE)
    if (size < this.size) await data.truncate(size)
    append(journal, RESIZED, size, 0)
    this.#resized(size, end, last)
  }

  /** Puts everything on stable storage. */
  flush(): Promise<void> {
    // One after the other: who asks while another is under way has not been heard by it.
    const flush = this.#flushing.then(() => this.#flush())
    this.#flushing = flush.catch(() => {})
    return flush
  }

  async #flush(): Promise<void> {
    if (this.#isFlushed || this.#files === null) return
    this.#isFlushed = true
    try {
      const { data, journal } = this.#files
      // What is written while the data goes to the disk is not among it.
      const { size } = await journal.stat()
      await data.datasync()
      append(journal, FLUSHED, size, 0)
      await journal.datasync()
    } catch (error) {
      this.#isFlushed = false
      throw error
    }
  }

  async close(): Promise<void> {
    const files = this.#files ?? (await this.#opening?.catch(() => null)) ?? null
    this.#files = null
    this.#opening = null
    await files?.data.close()
    await files?.journal.close()
  }

  /** Throws away all that was written. */
  async discard(): Promise<void> {
    await this.close()
    await rm(this.#path, { force: true })
    await rm(`${this.#path}.map`, { force: true })
    this.written.clear()
    this.zeroed.clear()
    this.size = this.#originalSize
  }

  async #open(): Promise<{ data: FileHandle; journal: FileHandle }> {
    if (this.#files !== null) return this.#files
    this.#opening ??= this.#create()
    try {
      this.#files = await this.#opening
      return this.#files
    } finally {
      this.#opening = null
    }
  }

  async #create(): Promise<{ data: FileHandle; journal: FileHandle }> {
    const how = this.#isRead ? constants.O_RDONLY : constants.O_RDWR | constants.O_CREAT
    const flags = how | constants.O_NOFOLLOW
    const data = await open(this.#path, flags, 0o600)
    const journal = await open(`${this.#path}.map`, flags | constants.O_APPEND, 0o600)
    const { size } = await journal.stat()
    if (size < HEADER && !this.#isRead) {
      const header = Buffer.alloc(HEADER)
      MAGIC.copy(header)
      header[MAGIC.byteLength] = FORMAT
      bootId().copy(header, 16)
      header.writeBigUInt64LE(BigInt(this.#originalSize), 32)
      await journal.truncate(0)
      writeSync(journal.fd, header)
    }
    return { data, journal }
  }

  async #load(): Promise<void> {
    const bytes = await readFile(`${this.#path}.map`).catch(nullIfAbsent)
    if (bytes === null || bytes.byteLength < HEADER) return
    if (!bytes.subarray(0, MAGIC.byteLength).equals(MAGIC)) throw this.#foreign('it is not one')
    if (bytes[MAGIC.byteLength] !== FORMAT) throw this.#foreign('a newer hyperparcel wrote it')
    if (bytes.readBigUInt64LE(32) !== BigInt(this.#originalSize)) {
      throw this.#foreign('it is of an image of another size')
    }
    const isSameBoot = bytes.subarray(16, 32).equals(bootId())
    let end = HEADER + Math.floor((bytes.byteLength - HEADER) / RECORD) * RECORD
    if (!isSameBoot) end = flushedEnd(bytes, end)
    for (let at = HEADER; at < end; at += RECORD) {
      const [first, second] = [bytes.readBigUInt64LE(at + 8), bytes.readBigUInt64LE(at + 16)]
      this.#replay(bytes[at] ?? 0, Number(first), Number(second))
    }
    // What does not count must not come back when more is appended.
    if (!this.#isRead && (end < bytes.byteLength || !isSameBoot)) {
      await this.#restart(bytes.subarray(0, end))
    }
    const data = await stat(this.#path).catch(() => null)
    if (data === null && this.written.count > 0) throw this.#foreign('its data file is gone')
  }

  #replay(kind: number, first: number, second: number): void {
    if (kind === WRITTEN) {
      this.zeroed.delete(first, first + second)
      this.written.add(first, first + second)
    } else if (kind === ZEROED) {
      this.written.delete(first, first + second)
      this.zeroed.add(first, first + second)
    } else if (kind === RESIZED) {
      const last = Math.ceil(Math.max(this.size, first) / SUBPAGE_SIZE)
      this.#resized(first, Math.ceil(first / SUBPAGE_SIZE), last)
    } else if (kind !== FLUSHED) {
      throw this.#foreign(`it has a record of kind ${kind}`)
    }
  }

  /** What a file gets back when it grows again is zeros. */
  #resized(size: number, end: number, last: number): void {
    const before = Math.ceil(this.size / SUBPAGE_SIZE)
    this.written.delete(end, last)
    this.zeroed.delete(end, last)
    if (end > before) this.zeroed.add(before, end)
    this.size = size
  }

  /** Writes the journal anew, with the records that count, for this boot. */
  async #restart(bytes: Buffer): Promise<void> {
    const fresh = Buffer.concat([bytes, recordOf(FLUSHED, bytes.byteLength, 0)])
    bootId().copy(fresh, 16)
    const journal = await open(`${this.#path}.map`, 'r+')
    try {
      await journal.write(fresh, 0, fresh.byteLength, 0)
      await journal.truncate(fresh.byteLength)
      await journal.sync()
    } finally {
      await journal.close()
    }
  }

  #foreign(why: string): ParcelError {
    return new ParcelError('INTEGRITY', `${this.#path}.map cannot be used: ${why}`)
  }
}

/** The overlay of a file of a version, in the folder of its overlays. */
export function overlayPath(overlays: string, path: Buffer): string {
  return join(overlays, createHash('sha256').update(path).digest('hex').slice(0, 32))
}

function recordOf(kind: number, first: number, second: number): Buffer {
  const record = Buffer.alloc(RECORD)
  record[0] = kind
  record.writeBigUInt64LE(BigInt(first), 8)
  record.writeBigUInt64LE(BigInt(second), 16)
  return record
}

function append({ fd }: FileHandle, kind: number, first: number, second: number): void {
  const record = recordOf(kind, first, second)
  // At once, not on a thread: the order of records is the order of what they say.
  if (writeSync(fd, record) === RECORD) return
  // What got onto a full disk is the beginning of a record, and the next must not follow it.
  const { size } = fstatSync(fd)
  ftruncateSync(fd, size - ((size - HEADER) % RECORD))
  throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' })
}

function isAllIn(pages: PageMap, start: number, end: number): boolean {
  return pages.has(start) && pages.endOfRun(start, end) >= end
}

async function writeAll(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let at = 0; at < bytes.byteLength;) {
    at += (await file.write(bytes, at, bytes.byteLength - at, offset + at)).bytesWritten
  }
}

/** How much of a journal, of `end` bytes in whole records, was on stable storage. */
function flushedEnd(journal: Buffer, end: number): number {
  for (let at = end - RECORD; at >= HEADER; at -= RECORD) {
    const vouched = Number(journal.readBigUInt64LE(at + 8))
    if (journal[at] !== FLUSHED || vouched < HEADER || vouched > at) continue
    return vouched - ((vouched - HEADER) % RECORD)
  }
  return HEADER
}

let boot: Buffer | null = null

/** Tells one run of the computer from another; zeros where the system does not say. */
function bootId(): Buffer {
  if (boot !== null) return boot
  boot = Buffer.alloc(16)
  try {
    const text = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1')
    Buffer.from(text.replaceAll(/[^0-9a-f]/g, ''), 'hex').copy(boot)
  } catch {
    // Not Linux: then every record counts.
  }
  return boot
}
