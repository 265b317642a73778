import { Batches } from '../../batches.js'
import { SEGMENT_SIZE } from '../../chunk/buffers.js'
import type { WorkerPool } from '../../chunk/worker-pool.js'
import type { SmallWrite } from '../../chunk/write-files-job.js'
import type { Place } from '../../format/entry.js'
import type { FileEntry } from '../../format/file-table.js'
import { readChunk, readLeaf } from '../../image/tree-reader.js'
import type { PackReader } from '../../log/pack-reader.js'
import type { FileStamp } from '../commit/file-stamps.js'
import { holesOf, itemsOf, seconds, type Item } from './write-file.js'

/** Files that one thread writes in one go. */
const MOST = 64

export interface SmallWritesOptions {
  source: PackReader
  pool: WorkerPool
  onItems: (items: Item[]) => Promise<void>
  onBytes: (bytes: number) => void
}

interface Loaded {
  path: Buffer
  /** null: the file is one hole. */
  chunk: Buffer | null
  file: SmallWrite
  items: Item[]
}

/**
 * Writes files of one chunk, which the threads make by the batch: for a file of a kilobyte the trip to a
 * thread and back takes longer than all the rest. Nothing unverified is written.
 */
export class SmallWrites {
  readonly #options: SmallWritesOptions
  readonly #batches: Batches<Loaded, FileStamp>

  constructor(options: SmallWritesOptions) {
    this.#options = options
    const limits = { items: MOST, size: SEGMENT_SIZE }
    this.#batches = new Batches((files) => this.#writeAll(files), limits)
  }

  /** Makes a file of a version, with its holes, mode and time. Throws INTEGRITY, UNREACHABLE. */
  async write(
    path: Buffer,
    entry: FileEntry & { type: 'file' },
    place: Place | null
  ): Promise<FileStamp> {
    const { source } = this.#options
    const { size, root, chunking, mode } = entry
    const subtree = { hash: root, place }
    const [leaf] = root === null || size === 0 ? [] : await readLeaf(source, subtree, 1)
    const read =
      leaf === undefined ? null : await readChunk(source, leaf, { length: size, chunking })
    // Of its own: its pack need not stay for it.
    const chunk = read === null ? null : Buffer.from(read)
    const holes = leaf === undefined ? 0 : holesOf(leaf)
    const items = leaf === undefined ? [] : itemsOf(leaf)
    const length = chunk?.byteLength ?? 0
    const file = { size, length, holes, mode, mtime: seconds(entry.mtime) }
    return this.#batches.add({ path, chunk, file, items }, length)
  }

  async #writeAll(files: readonly Loaded[]): Promise<FileStamp[]> {
    const { pool, onItems, onBytes } = this.#options
    const made = await pool.writeFiles(files)
    // Only what has proved to be what it should is remembered.
    await onItems(files.flatMap(({ items }) => items))
    onBytes(files.reduce((sum, { file }) => sum + file.length, 0))
    return made.map(({ ino, ctimeNs }) => ({ ino, ctime: ctimeNs }))
  }
}
