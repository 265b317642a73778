import { Batches } from '../../batches.js'
import type { WantedFile } from '../../chunk/read-files-job.js'
import type { WorkerPool } from '../../chunk/worker-pool.js'
import type { Place } from '../../format/entry.js'
import { commitFile } from './commit-file.js'
import type { ItemWriter } from './gathering.js'
import { isSmallFile, leafOf, SMALL_BATCH } from './small-files.js'
import type { Found } from './walk.js'

const NOWHERE: Place = { core: 0, block: 0, ordinal: 0 }

/** Has everything already, and keeps nothing. */
const NO_WRITER: ItemWriter = {
  find: async (ids) => ids.map((id) => id && NOWHERE),
  put: () => NOWHERE,
  putSegment: () => null,
  add: async () => NOWHERE,
  ready: async () => {}
}

/** Roots of the id trees of files, as a suspend would store them now. */
export class FileRoots {
  readonly #how: { pool: WorkerPool; signal: AbortSignal }
  readonly #small: Batches<WantedFile, Buffer | null>

  constructor(how: { pool: WorkerPool; signal: AbortSignal }) {
    this.#how = how
    this.#small = new Batches((files) => this.#rootsOf(files), SMALL_BATCH)
  }

  /** Throws ChangingFile, errors of the file system. */
  async of({ absolute, stats }: Found): Promise<Buffer | null> {
    if (isSmallFile(stats)) {
      const size = Number(stats.size)
      const root = await this.#small.add({ absolute, size }, size)
      if (root !== null) return root
    }
    const how = { ...this.#how, writer: NO_WRITER, stream: 'disk', before: null } as const
    const { tree } = await commitFile(absolute, { ...how, isStill: true, onBytes: () => {} })
    return tree.root
  }

  /** null: the file takes a look of its own. */
  async #rootsOf(files: readonly WantedFile[]): Promise<(Buffer | null)[]> {
    const read = await this.#how.pool.readFiles(files)
    read.release()
    return read.files.map((file) => (file === null ? null : leafOf(file).root))
  }
}
