import { Batches } from '../../batches.js'
import type { FileStats } from '../../chunk/file-stats.js'
import type { Listing } from '../../chunk/list-job.js'
import { below } from '../../chunk/paths.js'
import type { WorkerPool } from '../../chunk/worker-pool.js'
import { MAX_PATH_BYTES } from '../../format/limits.js'

/** Something that was left out of a version, and why. */
export interface Skipped {
  path: string
  why: string
}

/** Told of what a walk cannot give, by its path below the root, and why. */
export type Skip = (path: Buffer, why: string) => void

/** Why there is nothing any more where something was a moment ago. */
export const VANISHED = 'it vanished'

/** Something below the root of a walk. */
export class Found {
  /** Raw bytes, relative to the root of the walk. */
  readonly path: Buffer
  readonly stats: FileStats
  readonly #root: Buffer
  #name: string | null = null

  constructor(root: Buffer, path: Buffer, stats: FileStats) {
    this.#root = root
    this.path = path
    this.stats = stats
  }

  get absolute(): Buffer {
    return below(this.#root, this.path)
  }

  /** The path as text. */
  get name(): string {
    return (this.#name ??= this.path.toString('utf8'))
  }
}

/** Folders of a folder that are listed ahead. */
const AHEAD = 8

/**
 * Every file, folder and symlink below `root`, in the order of a file table; nothing is followed.
 * What cannot go into a parcel, or cannot be read, is handed to `skip` and the walk goes on. Folders are listed
 * a while before it is their turn.
 */
export async function* walk(root: string, skip: Skip, pool: WorkerPool): AsyncGenerator<Found> {
  const lists = new Batches((folders: readonly Buffer[]) => pool.list(folders), {
    items: AHEAD,
    size: Infinity
  })
  const top = Buffer.from(root)
  const list = (path: Buffer): Promise<Listing | Error> =>
    lists.add(path.byteLength === 0 ? top : below(top, path), 0)
  const listing = await list(Buffer.alloc(0))
  if (listing instanceof Error) throw listing
  const open = [new Folder(Buffer.alloc(0), listing, list)]
  for (let folder = open.at(-1); folder !== undefined; folder = open.at(-1)) {
    const next = folder.next()
    if (next === null) {
      open.pop()
      continue
    }
    const { path, stats, listed } = next
    if (path.byteLength > MAX_PATH_BYTES) {
      skip(path, 'its path is longer than 4096 bytes')
    } else if (stats instanceof Error) {
      skip(path, reason(stats))
    } else if (stats.isFile() || stats.isDirectory() || stats.isSymbolicLink()) {
      yield new Found(top, path, stats)
      const inner = await listed
      if (inner instanceof Error) {
        if (!isAccessError(inner)) throw inner
        skip(path, reason(inner))
      } else if (inner !== null) {
        open.push(new Folder(path, inner, list))
      }
    } else {
      skip(path, 'not a file, folder or symlink')
    }
  }
}

/** A folder that is walked through. */
class Folder {
  readonly #path: Buffer
  readonly #listing: Listing
  readonly #list: (path: Buffer) => Promise<Listing | Error>
  /** Of the folders in it that come next. */
  readonly #ahead: Promise<Listing | Error>[] = []
  #next = 0
  /** Up to here its folders are being listed. */
  #end = 0

  constructor(path: Buffer, listing: Listing, list: (path: Buffer) => Promise<Listing | Error>) {
    this.#path = path
    this.#listing = listing
    this.#list = list
  }

  /** The next thing in it, with what is listed of a folder; null: there is none. */
  next(): {
    path: Buffer
    stats: FileStats | Error
    listed: Promise<Listing | Error> | null
  } | null {
    this.#lookAhead()
    const n = this.#next++
    const stats = this.#listing.stats[n]
    if (stats === undefined) return null
    const listed = isFolder(stats) ? (this.#ahead.shift() ?? null) : null
    return { path: this.#pathOf(n), stats, listed }
  }

  #lookAhead(): void {
    const { stats } = this.#listing
    for (; this.#end < stats.length && this.#ahead.length < AHEAD; this.#end++) {
      if (!isFolder(stats[this.#end])) continue
      const listed = this.#list(this.#pathOf(this.#end))
      listed.catch(() => {})
      this.#ahead.push(listed)
    }
  }

  #pathOf(n: number): Buffer {
    const name = this.#listing.names[n] ?? Buffer.alloc(0)
    return this.#path.byteLength === 0 ? name : below(this.#path, name)
  }
}

function isFolder(stats: FileStats | Error | undefined): boolean {
  return stats !== undefined && !(stats instanceof Error) && stats.isDirectory()
}

/** A file's error in a few words. */
export function reason(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : ''
  if (code === 'EACCES' || code === 'EPERM') return 'no permission to read it'
  if (code === 'ENOENT' || code === 'ENOTDIR') return VANISHED
  if (code === 'ENAMETOOLONG') return 'its path is too long for the system'
  return error instanceof Error ? error.message : String(error)
}

/** Whether an error is about one file, so that the others can still be read. */
export function isAccessError(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : ''
  return ['EACCES', 'EPERM', 'ENOENT', 'ENOTDIR', 'ELOOP', 'EIO', 'ENAMETOOLONG'].includes(
    String(code)
  )
}
