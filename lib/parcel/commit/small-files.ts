import { Batches } from '../../batches.js'
import { SEGMENT_SIZE } from '../../chunk/buffers.js'
import type { FileStats } from '../../chunk/file-stats.js'
import type { SmallFile, WantedFile } from '../../chunk/read-files-job.js'
import type { WorkerPool } from '../../chunk/worker-pool.js'
import { pageHash } from '../../chunk/id.js'
import type { Entry, Place } from '../../format/entry.js'
import { CHUNK_SIZE, CHUNKING } from '../../format/limits.js'
import { encodeIdPage, encodePlacePage } from '../../format/page.js'
import type { Tree } from '../../image/tree-writer.js'
import type { PackWriter, Stream } from '../../log/pack-writer.js'
import type { BaseFile } from './base-files.js'
import { stampOf, untilShown, type FileStamp } from './file-stamps.js'

/** What one thread reads in one go. */
export const SMALL_BATCH = { items: 64, size: SEGMENT_SIZE }

export interface SmallFileToStore extends WantedFile {
  stream: Stream
  /** What it was in the version before. */
  before: BaseFile | null
  isStill: boolean
}

export interface StoredFile {
  tree: Tree
  stats: FileStats
  stamp: FileStamp | null
}

/** Whether a file is of one chunk. */
export function isSmallFile(stats: FileStats): boolean {
  const { size } = stats
  return stats.isFile() && size > 0n && size <= BigInt(CHUNK_SIZE)
}

/**
 * Stores files of one chunk, which the threads read by the batch: for a file of a kilobyte the trip to a
 * thread and back takes longer than all the rest.
 */
export class SmallFiles {
  readonly #writer: PackWriter
  readonly #pool: WorkerPool
  readonly #batches: Batches<SmallFileToStore, StoredFile | null>

  constructor(writer: PackWriter, pool: WorkerPool) {
    this.#writer = writer
    this.#pool = pool
    this.#batches = new Batches((files) => this.#storeAll(files), SMALL_BATCH)
  }

  /** null: the file is not what it was when it was found, or was written to just now: it takes a look of its own. */
  store(file: SmallFileToStore): Promise<StoredFile | null> {
    return this.#batches.add(file, file.size)
  }

  async #storeAll(batch: readonly SmallFileToStore[]): Promise<(StoredFile | null)[]> {
    const { files, release } = await this.#pool.readFiles(batch)
    try {
      const read = batch.map((file, n) => contentOf(file, files[n] ?? null))
      const ids = read.flatMap((one) => (one?.isNew === true ? [one.id, one.root] : [null, null]))
      const known = await this.#writer.find(ids)
      return batch.map((file, n) => {
        const one = read[n] ?? null
        const places = [known[2 * n] ?? null, known[2 * n + 1] ?? null] as const
        return one === null ? null : this.#stored(file, one, places)
      })
    } finally {
      release()
    }
  }

  #stored(
    { stream, before }: SmallFileToStore,
    { id, bytes, root, page, isNew, stats, stamp }: Content,
    [knownChunk, knownPage]: readonly [Known, Known]
  ): StoredFile {
    if (!isNew) {
      return { tree: { root, place: Promise.resolve(before?.place ?? null) }, stats, stamp }
    }
    const writer = this.#writer
    const chunk = id === null ? [] : [knownChunk ?? writer.put(stream, id, bytes)]
    const idPage = knownPage ?? writer.put('ids', root, page)
    // Where one of them is new, so is the page that says where they are.
    const isFresh = knownPage === null || (id !== null && knownChunk === null)
    const place = async (): Promise<Place> => {
      const items = await Promise.all(chunk)
      const bytes = encodePlacePage({ level: 0, idPage: await idPage, items: [items] })
      const hash = pageHash(bytes)
      return isFresh ? writer.put('places', hash, bytes) : writer.add('places', hash, bytes)
    }
    const placed = place()
    placed.catch(() => {})
    return { tree: { root, place: placed }, stats, stamp }
  }
}

type Known = Place | Promise<Place> | null

interface Content extends SmallFile {
  root: Buffer
  page: Buffer
  /** Whether the version before had something else there. */
  isNew: boolean
  stamp: FileStamp | null
}

/** All of the id tree of a file of one chunk. */
export function leafOf({ id, holes }: Pick<SmallFile, 'id' | 'holes'>): {
  page: Buffer
  root: Buffer
} {
  const entry: Entry = id === null ? { kind: 'zero', holes } : { kind: 'chunk', id, holes }
  const page = encodeIdPage({ level: 0, entries: [entry] })
  return { page, root: pageHash(page) }
}

/** null: it cannot be taken as it was read. */
function contentOf({ before, isStill }: SmallFileToStore, file: SmallFile | null): Content | null {
  if (file === null) return null
  const { stats, openedAt } = file
  if (!isStill && untilShown(stats.ctimeNs, openedAt) > 0) return null
  const { page, root } = leafOf(file)
  const isKnown = before?.entry.chunking === CHUNKING && before.place !== null
  const was = isKnown ? before.entry.root : null
  const isNew = was?.equals(root) !== true
  return { ...file, root, page, isNew, stamp: stampOf(stats, openedAt, false) }
}
