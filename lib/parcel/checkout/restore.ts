import { ParcelError } from '../../errors.js'
import { printable } from '../../format/file-table.js'
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
 * not on this host no more is fetched than that. It belongs to no parcel. Throws USAGE, UNKNOWN_VERSION for a
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
  const wanted = await named(paths, () => contents(source, version, places))
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
      `this version has no ${printable(lacking)}: 'hyperparcel show' lists what it has`
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

/**
 * Paths as the version has them. A name that is not text, or has characters that are not shown, may be given
 * as it is listed. Throws USAGE for one that could be several, or is empty.
 */
async function named(
  paths: readonly string[],
  all: () => AsyncIterable<Content>
): Promise<Buffer[]> {
  const wanted: Buffer[] = []
  for (const given of paths) {
    if (given === '') throw new ParcelError('USAGE', 'an empty path names nothing: . is everything')
    const text = given.replace(/^\.?\/+|\/+$|^\.$/g, '')
    const path = Buffer.from(text)
    const shown = printable(path)
    const isListed = shown !== text || /\\u\{[0-9a-f]+\}/.test(text)
    const found: Buffer[] = []
    if (isListed) {
      for await (const { entry } of all()) {
        if ([shown, text].includes(printable(entry.path))) found.push(entry.path)
      }
    }
    if (found.length > 1) {
      throw new ParcelError(
        'USAGE',
        `${shown} could be ${found.length} things of this version, whose names are not text: ` +
          'restore the folder that they are in'
      )
    }
    wanted.push(found[0] ?? path)
  }
  return wanted
}

/** Whether a path is another, or lies below it. */
function isWithin(path: Buffer, folder: Buffer): boolean {
  if (!path.subarray(0, folder.byteLength).equals(folder)) return false
  return path.byteLength === folder.byteLength || path[folder.byteLength] === 0x2f
}
