import type { BigIntStats } from 'node:fs'
import { lstat, open, readdir } from 'node:fs/promises'
import { errorOf, failureOf } from './failure.js'
import { PackedStats, putStats, STATS_FIELDS, type FileStats } from './file-stats.js'
import { chunkId, isZero } from './id.js'
import type { Listing } from './list-job.js'
import { below } from './paths.js'
import {
  holesOf,
  isSameFile,
  READ_FLAGS,
  type SmallFile,
  type WantedFile
} from './read-files-job.js'

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
      if (!this.#isFew(countOf(names))) return null
      listed.push(names instanceof Error ? names : await lookAt(folder, names))
    }
    return listed
  }

  async measure(top: Buffer, signal: AbortSignal): Promise<number | null> {
    let bytes = 0
    const folders = [top]
    for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
      if (signal.aborted) break
      const names = await errorOr(readdir(folder, 'buffer'))
      if (!this.#isFew(countOf(names))) return null
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

  async readFiles(wanted: readonly WantedFile[]): Promise<(SmallFile | null)[] | null> {
    return this.#isFew(wanted.length) ? Promise.all(wanted.map(readWhole)) : null
  }

  /** Counts `more` things, and says whether all so far are few. */
  #isFew(more: number): boolean {
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
  const stats = names.map(async (name) => {
    const found = await errorOr(lstat(below(folder, name), { bigint: true }))
    return found instanceof Error ? found : packed(found)
  })
  return { names, stats: await Promise.all(stats) }
}

async function readWhole({ absolute, size }: WantedFile): Promise<SmallFile | null> {
  const openedAt = BigInt(Date.now()) * 1_000_000n
  const handle = await open(absolute, READ_FLAGS).catch(() => null)
  if (handle === null) return null
  try {
    const before = await handle.stat({ bigint: true })
    if (!before.isFile() || before.size !== BigInt(size)) return null
    const bytes = Buffer.allocUnsafe(size)
    const { bytesRead } = await handle.read(bytes, 0, size, 0)
    const after = await handle.stat({ bigint: true })
    if (bytesRead !== size || !isSameFile(before, after)) return null
    const holes = holesOf(bytes, after)
    if (holes === null) return null
    const id = isZero(bytes) ? null : chunkId(bytes)
    return { bytes, id, holes, stats: packed(after), openedAt }
  } catch {
    return null
  } finally {
    await handle.close()
  }
}

/** As a thread tells them: Node's own have the sign of a large inode's number wrong. */
function packed(stats: BigIntStats): FileStats {
  const all = new BigInt64Array(STATS_FIELDS)
  putStats(all, 0, stats)
  return new PackedStats(all, 0)
}

function errorOr<T>(promise: Promise<T>): Promise<T | Error> {
  return promise.catch((error: unknown) => errorOf(failureOf(error)))
}
