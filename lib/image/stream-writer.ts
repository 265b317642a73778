import { chunkId, isZero } from '../chunk/id.js'
import type { Place } from '../format/entry.js'
import { CHUNK_SIZE } from '../format/limits.js'
import type { PageSink } from './items.js'
import { TreeWriter, type Tree } from './tree-writer.js'

interface ChunkSink extends PageSink {
  add(stream: 'ids' | 'places' | 'disk' | 'table', id: Buffer, bytes: Buffer): Promise<Place>
}

/** Where a stream of so many bytes goes: a short one is worth no pack of its own. */
export function streamFor(size: number): 'disk' | 'table' {
  return size <= CHUNK_SIZE ? 'disk' : 'table'
}

/** Stores a stream of bytes, such as a file table, in chunks under an id tree, as if it were a file. */
export class StreamWriter {
  readonly #sink: ChunkSink
  readonly #tree: TreeWriter
  #chunk = Buffer.allocUnsafe(CHUNK_SIZE)
  #filled = 0
  size = 0

  constructor(sink: ChunkSink) {
    this.#sink = sink
    this.#tree = new TreeWriter(sink)
  }

  write(bytes: Buffer): void {
    this.size += bytes.byteLength
    for (let at = 0; at < bytes.byteLength;) {
      const count = bytes.copy(this.#chunk, this.#filled, at)
      at += count
      this.#filled += count
      if (this.#filled === CHUNK_SIZE) this.#cut()
    }
  }

  end(): Tree {
    if (this.#filled > 0) this.#cut()
    return this.#tree.end()
  }

  #cut(): void {
    const chunk = this.#chunk.subarray(0, this.#filled)
    this.#chunk = Buffer.allocUnsafe(CHUNK_SIZE)
    this.#filled = 0
    if (isZero(chunk)) {
      this.#tree.push({ kind: 'zero', holes: 0 }, [])
      return
    }
    const id = chunkId(chunk)
    const place = this.#sink.add(streamFor(this.size), id, chunk)
    place.catch(() => {})
    this.#tree.push({ kind: 'chunk', id, holes: 0 }, [place])
  }
}
