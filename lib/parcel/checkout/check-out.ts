import type { WorkerPool } from '../../chunk/worker-pool.js'
import type { FileEntry } from '../../format/file-table.js'
import { CORE_PREFIX, type ChunkIndex } from '../../log/chunk-index.js'
import { CoreTable } from '../../log/core-table.js'
import type { Work } from '../../progress.js'
import { contents } from '../../image/contents.js'
import type { FileStamps } from '../commit/file-stamps.js'
import { placesHash, type Known } from '../history.js'
import type { LogSet } from '../logs/log-set.js'
import { materialise } from './materialise.js'
import { OldFiles, type Before } from './old-files.js'
import { packsOf } from '../version-packs.js'

/** What of a version is not written into its folder, because it is served. */
export interface Served {
  isServed: (entry: FileEntry) => boolean
  /** Says in the folder what is not in it. */
  mark: (dir: string) => Promise<void>
}

export interface CheckOutOptions {
  set: LogSet
  pool: WorkerPool
  /**
   * Learns where the version's chunks are, so that the next commit need not store them again; null
   * when it knows, because this host made the version.
   */
  index: ChunkIndex | null
  /** null: everything is written. */
  served: Served | null
  /** What is in the folder; null: nothing is known of it. */
  before: Before | null
  /** Told when what is in the folder is known by other stamps than before. */
  onRestamped: () => Promise<void>
  /** The last chance to refuse: everything is written, nothing replaced. */
  beforeSwap: () => Promise<void>
  /** May still refuse what was in the folder before, now at `previous`: then it comes back. null: nothing was. */
  afterSwap: (previous: string | null) => Promise<void>
  work: Work
}

/**
 * Writes a version into `dir`, whole or not at all; returns by what its files are known again. Of
 * one that is partly served, what has not come yet is waited for. Throws INTEGRITY, UNREACHABLE, DISK_FULL.
 */
export async function checkOut(
  { id, version }: Known,
  dir: string,
  { set, pool, index, served, before, onRestamped, beforeSwap, afterSwap, work }: CheckOutOptions
): Promise<FileStamps> {
  const places = set.history.places(id)
  const cores = new CoreTable(places.cores)
  const source = packsOf(cores, set, served === null ? null : work.signal)
  const stamps = await materialise(dir, {
    source,
    pool,
    old: before === null ? null : new OldFiles(dir, before, cores),
    contents: () => contents(source, version, places),
    work,
    onItems: async (items) =>
      index?.add(
        set.parcel,
        items.map(({ id: item, place: { core, block, ordinal } }) => ({
          id: item,
          location: { core: cores.key(core).subarray(0, CORE_PREFIX), block, ordinal }
        }))
      ),
    ...(served === null ? {} : { isElsewhere: served.isServed, complete: served.mark }),
    onRestamped,
    beforeSwap,
    afterSwap
  })
  stamps.places = placesHash(places)
  return stamps
}
