import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { extents, isSparse } from '../../chunk/extents.js'
import { spans, wholeFile } from '../../chunk/spans.js'
import type { WorkerPool } from '../../chunk/worker-pool.js'
import { nullIfAbsent } from '../../errors.js'
import type { FileRole } from '../../format/file-table.js'
import { CHUNK_SIZE, CHUNKING } from '../../format/limits.js'
import type { OpenContent } from '../../image/open-tree.js'
import { Overlay } from '../../image/overlay.js'
import { TreeLookup } from '../../image/tree-lookup.js'
import type { PackWriter } from '../../log/pack-writer.js'
import { streamOf } from './roles.js'
import type { Images } from './store-image.js'
import { changedChunks, runsOf } from './commit-image.js'
import { ImageChunks, isOverwritten } from './image-chunks.js'

/** So many bytes are looked at in one go: whoever else has something to append comes in between. */
const GO = 32 * 1_048_576
/** What a machine changes as it runs, and has much of. */
const LARGE: ReadonlySet<FileRole> = new Set(['memory', 'disk'])

/** Stores what is not there yet of some of a file; gives how many bytes it looked at. */
type Part = (writer: PackWriter) => Promise<number>

interface Parts {
  /** The machine's folder, if there is one, and what its files are. */
  path: string | null
  roles: Readonly<Record<string, FileRole>>
  /** When the version before was made, ms since 1970: a disk that was not written to since is known. */
  since: number
  images: Images | null
  pool: WorkerPool
  signal: AbortSignal
}

/**
 * What a machine has changed, stored while it runs on: the version that is made when it stands still finds
 * it there. Whatever is read while it changes is of no use, and does no harm: nothing names it.
 */
export class StoreAhead {
  readonly #parts: AsyncGenerator<Part>
  readonly #signal: AbortSignal
  /** Bytes that were looked at. */
  done = 0

  constructor(parts: Parts) {
    this.#parts = ofMachine(parts)
    this.#signal = parts.signal
  }

  /** Stores some more; false: that was all. */
  async go(writer: PackWriter): Promise<boolean> {
    try {
      for (let bytes = 0; bytes < GO;) {
        this.#signal.throwIfAborted()
        const next = await this.#parts.next()
        if (next.done === true) return false
        const looked = await next.value(writer)
        bytes += looked
        this.done += looked
        await writer.ready()
      }
      return true
    } finally {
      await writer.end()
    }
  }

  async close(): Promise<void> {
    await this.#parts.return(undefined)
  }
}

async function* ofMachine(parts: Parts): AsyncGenerator<Part> {
  const served = new Set<string>()
  const { path, images, roles } = parts
  if (images !== null) {
    for await (const content of images.contents()) {
      served.add(content.entry.path.toString())
      yield* ofImage(content, images, parts.pool)
    }
  }
  if (path === null) return
  for (const [file, role] of Object.entries(roles)) {
    if (LARGE.has(role) && !served.has(file)) yield* ofFile(join(path, file), role, parts)
  }
}

async function* ofImage(
  { entry, place, overlay: path }: OpenContent,
  images: Images,
  pool: WorkerPool
): AsyncGenerator<Part> {
  if (entry.type !== 'file') return
  const { size, root, chunking } = entry
  const overlay = await Overlay.open(path, size, { isRead: true })
  try {
    const lookup = new TreeLookup(images.anywhere, { size, root, place, chunking })
    let chunks: ImageChunks | null = null
    let into: PackWriter | null = null
    const stream = streamOf(entry.role)
    const chunksFor = (writer: PackWriter): ImageChunks => {
      if (into === writer && chunks !== null) return chunks
      into = writer
      chunks = new ImageChunks(overlay, lookup, { ...images, writer, pool, stream })
      return chunks
    }
    const changed = changedChunks(overlay, size, chunking === CHUNKING)
    for (const { chunk, count } of runsOf(changed, (n) => isOverwritten(overlay, n))) {
      yield async (writer) => {
        const of = chunksFor(writer)
        await (count > 1 ? of.storeOverwritten(chunk, count) : of.store(chunk))
        return count * CHUNK_SIZE
      }
    }
  } finally {
    await overlay.close()
  }
}

async function* ofFile(path: string, role: FileRole, { pool, since }: Parts): AsyncGenerator<Part> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
  const handle = await open(path, flags).catch(nullIfAbsent)
  if (handle === null) return
  try {
    const stats = await handle.stat({ bigint: true })
    if (!stats.isFile()) return
    // Memory is mapped: it is written to without a trace in the times.
    if (role === 'disk' && stats.mtimeMs < since) return
    const size = Number(stats.size)
    const plan = isSparse(stats) ? spans(extents(handle.fd), size) : wholeFile(size)
    for await (const span of plan) {
      if (span.kind !== 'data') continue
      const { chunk, masks } = span
      const offset = chunk * CHUNK_SIZE
      const length = Math.min(masks.length * CHUNK_SIZE, size - offset)
      yield async (writer) => {
        const segment = await pool.read(handle.fd, offset, length)
        const ids = masks.map((_, n) => segment.id(n))
        const known = await writer.find(ids)
        for (const [n, id] of ids.entries()) {
          if (id === null || (known[n] ?? null) !== null) continue
          const start = n * CHUNK_SIZE
          void writer.put(streamOf(role), id, segment.bytes.subarray(start, start + CHUNK_SIZE))
        }
        segment.release()
        return length
      }
    }
  } finally {
    await handle.close()
  }
}
