import { lstat, readdir } from 'node:fs/promises'
import { errorOf, failureOf } from './failure.js'
import type { Listing } from './list-job.js'
import { below } from './paths.js'

/** Things that are looked at in less time than a thread takes to start. */
const MOST = 256

/**
 * Looks into folders as the threads do, as long as none of them runs: a parcel of a few large files that did not
 * change needs none at all. Gives null once there is more to look at than a few things, and from then on.
 */
export class FewThings {
  #left = MOST

  async list(folders: readonly Buffer[]): Promise<(Listing | Error)[] | null> {
    const listed: (Listing | Error)[] = []
    for (const folder of folders) {
      const names = await errorOr(readdir(folder, 'buffer'))
      if (!this.isFew(countOf(names))) return null
      listed.push(names instanceof Error ? names : await lookAt(folder, names))
    }
    return listed
  }

  /** As `WorkerPool.measure`. */
  async measure(top: Buffer): Promise<number | null> {
    let bytes = 0
    const folders = [top]
    for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
      const names = await errorOr(readdir(folder, 'buffer'))
      if (!this.isFew(countOf(names))) return null
      if (names instanceof Error) continue
      const listing = await lookAt(folder, names)
      for (const [n, stats] of listing.stats.entries()) {
        if (stats instanceof Error) continue
        if (stats.isFile()) bytes += Math.min(Number(stats.blocks) * 512, Number(stats.size))
        else if (stats.isDirectory()) folders.push(below(folder, listing.names[n] ?? top))
      }
    }
    return bytes
  }

  /** Counts `more` things, and says whether all so far are few. */
  isFew(more: number): boolean {
    this.#left -= more
    return this.#left >= 0
  }
}

/** A folder is a thing to look at, too. */
function countOf(names: readonly Buffer[] | Error): number {
  return 1 + (names instanceof Error ? 0 : names.length)
}

async function lookAt(folder: Buffer, unordered: readonly Buffer[]): Promise<Listing> {
  const names = unordered.toSorted((a, b) => Buffer.compare(a, b))
  const stats = names.map((name) => errorOr(lstat(below(folder, name), { bigint: true })))
  return { names, stats: await Promise.all(stats) }
}

function errorOr<T>(promise: Promise<T>): Promise<T | Error> {
  return promise.catch((error: unknown) => errorOf(failureOf(error)))
}
