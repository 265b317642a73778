import type { WorkerPool } from '../chunk/worker-pool.js'
import { CORE_PREFIX, type ChunkIndex } from '../log/chunk-index.js'
import { CoreTable } from '../log/core-table.js'
import type { Work } from '../progress.js'
import { contents } from '../image/contents.js'
import type { FileStamps } from './file-stamps.js'
import { placesHash, type Known } from './history.js'
import type { LogSet } from './log-set.js'
import { materialise } from './materialise.js'
import { packsOf } from './version-packs.js'

export interface CheckOutOptions {
  set: LogSet
  pool: WorkerPool
  /**
   * Learns where the version's chunks are, so that the next commit need not store them again; null
   * when it knows, because this host made the version.
   */
  index: ChunkIndex | null
  /** The last chance to refuse: everything is written, nothing replaced. */
  beforeSwap: () => Promise<void>
  work: Work
}

/**
 * Writes a version that is here into `dir`, whole or not at all; returns by what its files are
 * known again. Throws INTEGRITY, UNREACHABLE, DISK_FULL.
 */
export async function checkOut(
  { id, version }: Known,
  dir: string,
  { set, pool, index, beforeSwap, work }: CheckOutOptions
): Promise<FileStamps> {
  const places = set.history.places(id)
  const cores = new CoreTable(places.cores)
  const source = packsOf(cores, set)
  const stamps = await materialise(dir, {
    source,
    pool,
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
    beforeSwap
  })
  stamps.places = placesHash(places)
  return stamps
}
