import type { WorkerPool } from '../../chunk/worker-pool.js'
import type { Place } from '../../format/entry.js'
import { commitFile } from './commit-file.js'
import type { ItemWriter } from './gathering.js'

const NOWHERE: Place = { core: 0, block: 0, ordinal: 0 }

/** Has everything already, and keeps nothing. */
const NO_WRITER: ItemWriter = {
  find: async (ids) => ids.map((id) => id && NOWHERE),
  put: () => NOWHERE,
  putSegment: () => null,
  add: async () => NOWHERE,
  ready: async () => {}
}

/** The root of the id tree of a file as a suspend would store it now. Throws ChangingFile, errors of the file system. */
export async function rootOf(
  absolute: Buffer,
  { pool, signal }: { pool: WorkerPool; signal: AbortSignal }
): Promise<Buffer | null> {
  const how = {
    writer: NO_WRITER,
    pool,
    signal,
    stream: 'disk',
    before: null,
    isStill: true
  } as const
  const { tree } = await commitFile(absolute, { ...how, onBytes: () => {} })
  return tree.root
}
