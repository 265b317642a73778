import type { WorkerPool } from '../chunk/worker-pool.js'
import { ParcelError } from '../errors.js'
import { CORE_PREFIX, type ChunkIndex } from '../log/chunk-index.js'
import { CoreTable } from '../log/core-table.js'
import { PackReader } from '../log/pack-reader.js'
import type { Work } from '../progress.js'
import { contents } from './contents.js'
import type { Known } from './history.js'
import type { LogSet } from './log-set.js'
import { materialise } from './materialise.js'

export interface CheckOutOptions {
  set: LogSet
  pool: WorkerPool
  /** Learns where the version's chunks are, so that the next commit need not store them again. */
  index: ChunkIndex
  /** The last chance to refuse: everything is written, nothing replaced. */
  beforeSwap: () => Promise<void>
  work: Work
}

/** Writes a version that is here into `dir`, whole or not at all. Throws INTEGRITY, UNREACHABLE, DISK_FULL. */
export async function checkOut(
  { id, version }: Known,
  dir: string,
  { set, pool, index, beforeSwap, work }: CheckOutOptions
): Promise<void> {
  const places = set.history.places(id)
  const cores = new CoreTable(places.cores)
  const source = packsOf(cores, set)
  await materialise(dir, {
    source,
    pool,
    contents: () => contents(source, version, places),
    work,
    onItems: (items) =>
      index.add(
        set.parcel,
        items.map(({ id: item, place: { core, block, ordinal } }) => ({
          id: item,
          location: { core: cores.key(core).subarray(0, CORE_PREFIX), block, ordinal }
        }))
      ),
    beforeSwap
  })
}

/** The contents of a version that is here, for comparing a folder with it. */
export function contentsOf({ id, version }: Known, set: LogSet): ReturnType<typeof contents> {
  const places = set.history.places(id)
  return contents(packsOf(new CoreTable(places.cores), set), version, places)
}

function packsOf(cores: CoreTable, set: LogSet): PackReader {
  return new PackReader(cores, async (key) => {
    const log = set.get(key)
    if (log !== null) return log
    throw new ParcelError('UNREACHABLE', 'a log that this version needs is not known here yet')
  })
}
