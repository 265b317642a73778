import { Reader } from '../format/codec.js'
import type { Place } from '../format/entry.js'
import { decodeFileEntry, TableChecker, type FileEntry } from '../format/file-table.js'
import { MAX_PATH_BYTES } from '../format/limits.js'
import { readOptionalPlace, type Places } from '../format/meta-record.js'
import type { Version } from '../format/version.js'
import type { ItemSource } from './items.js'
import { readStream } from './tree-reader.js'

/** A file of a version with where to begin reading it. */
export interface Content {
  entry: FileEntry
  place: Place | null
}

const MAX_LINE = 2 * MAX_PATH_BYTES + 4_096

/**
 * Everything in a version, in the order of its file table, each path checked. Streams: a table can
 * be larger than memory. Throws INTEGRITY, UNREACHABLE.
 */
export async function* contents(
  source: ItemSource,
  version: Version,
  places: Places
): AsyncGenerator<Content> {
  const { chunking } = version
  const checker = new TableChecker()
  const table = new ByteReader(
    readStream(source, { ...version.table, chunking, place: places.table })
  )
  const roots = new ByteReader(readStream(source, { ...places.roots, chunking }))
  for (;;) {
    const line = await table.line()
    if (line === null) return
    const entry = decodeFileEntry(line)
    checker.check(entry)
    if (entry.type !== 'file') yield { entry, place: null }
    else yield { entry, place: await roots.place() }
  }
}

/** Cuts a stream of buffers into records. */
class ByteReader {
  readonly #stream: AsyncIterator<Buffer>
  #buffer: Buffer = Buffer.alloc(0)
  #isEnded = false

  constructor(stream: AsyncGenerator<Buffer>) {
    this.#stream = stream
  }

  /** A sized record without its length; null at the end. */
  async line(): Promise<Buffer | null> {
    await this.#fill(MAX_LINE + 8)
    if (this.#buffer.byteLength === 0) return null
    const reader = new Reader(this.#buffer, 'file table')
    const line = reader.sized(MAX_LINE)
    this.#buffer = reader.rest()
    return line
  }

  async place(): Promise<Place | null> {
    await this.#fill(32)
    const reader = new Reader(this.#buffer, 'table of places')
    const place = readOptionalPlace(reader)
    this.#buffer = reader.rest()
    return place
  }

  async #fill(size: number): Promise<void> {
    while (!this.#isEnded && this.#buffer.byteLength < size) {
      const next = await this.#stream.next()
      if (next.done === true) this.#isEnded = true
      else this.#buffer = Buffer.concat([this.#buffer, next.value])
    }
  }
}
