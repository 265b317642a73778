import { ParcelError } from '../../errors.js'
import { contents, type Content } from '../../image/contents.js'
import { CoreTable } from '../../log/core-table.js'
import type { WorkerPool } from '../../chunk/worker-pool.js'
import type { Work } from '../../progress.js'
import type { Known } from '../history.js'
import type { LogSet } from '../logs/log-set.js'
import { materialise } from './materialise.js'
import { packsOf } from '../version-packs.js'

export interface RestoreOptions {
  /** Files and folders of the version; none: all of it. */
  paths: readonly string[]
  /** The last chance to refuse. */
  beforeSwap: () => Promise<void>
}

/**
 * Writes a version, or what is at or below some of its paths, into a new folder `dir`: of what is
 * not on this host no more is fetched than that. It belongs to no parcel. Throws UNKNOWN_VERSION for a
 * path that the version lacks, INTEGRITY, UNREACHABLE, DISK_FULL.
 */
export async function restoreFiles(
  { id, version }: Known,
  dir: string,
  {
    paths,
    beforeSwap,
    set,
    pool,
    work
  }: RestoreOptions & { set: LogSet; pool: WorkerPool; work: Work }
): Promise<number> {
  const places = set.history.places(id)
  const source = packsOf(new CoreTable(places.cores), set, work.signal)
  const wanted = paths.map((path) => Buffer.from(path.replace(/^\.?\/+|\/+$|^\.$/g, '')))
  const missing = new Set(wanted)
  let files = 0
  const chosen = async function* (): AsyncGenerator<Content> {
    files = 0
    for await (const content of contents(source, version, places)) {
      const { path, type } = content.entry
      const found = wanted.filter((one) => one.byteLength === 0 || isWithin(path, one))
      for (const one of found) missing.delete(one)
      const isOnTheWay = type === 'folder' && wanted.some((one) => isWithin(one, path))
      if (wanted.length > 0 && found.length === 0 && !isOnTheWay) continue
      if (type !== 'folder') files++
      yield content
    }
    const [lacking] = missing
    if (lacking === undefined) return
    throw new ParcelError(
      'UNKNOWN_VERSION',
      `this version has no ${lacking.toString()}: 'hyperparcel show' lists what it has`
    )
  }
  await materialise(dir, {
    source,
    pool,
    contents: chosen,
    work,
    onItems: async () => {},
    beforeSwap,
    isNew: true
  })
  return files
}

/** Whether a path is another, or lies below it. */
function isWithin(path: Buffer, folder: Buffer): boolean {
  if (!path.subarray(0, folder.byteLength).equals(folder)) return false
  return path.byteLength === folder.byteLength || path[folder.byteLength] === 0x2f
}
