import { linkSync, lstatSync, unlinkSync } from 'node:fs'
import { putStats, STATS_FIELDS } from './file-stats.js'
import { splitPaths } from './paths.js'

/** A file that is to have a second name, as it was when it was looked at last. */
export interface KnownFile {
  from: Buffer
  to: Buffer
  ino: bigint
  ctimeNs: bigint
}

/** Gives files a second name, if they are still as they were. */
export interface LinkFilesJob {
  /** Absolute, as `joinPaths` has them. */
  from: string
  to: string
  /** Inode and ctime of each. */
  known: BigInt64Array
}

/** Of the files as they are now, as `putStats` puts them; zeros for one that has no second name. */
export function linkFiles({ from, to, known }: LinkFilesJob): ArrayBuffer {
  const names = splitPaths(to)
  const stats = new BigInt64Array(names.length * STATS_FIELDS)
  for (const [n, path] of splitPaths(from).entries()) {
    const [ino, ctime] = [known[2 * n] ?? 0n, known[2 * n + 1] ?? 0n]
    linkOne(path, names[n] ?? path, { ino, ctime, stats, n })
  }
  return stats.buffer
}

function linkOne(
  from: Buffer,
  to: Buffer,
  { ino, ctime, stats, n }: { ino: bigint; ctime: bigint; stats: BigInt64Array; n: number }
): void {
  try {
    const before = lstatSync(from, { bigint: true })
    const isKnown = BigInt.asIntN(64, before.ino) === ino && before.ctimeNs === ctime
    // One that has another name already is somebody else's, too.
    if (!isKnown || !before.isFile() || before.nlink !== 1n) return
    linkSync(from, to)
    const after = lstatSync(to, { bigint: true })
    const isSame =
      after.ino === before.ino && after.size === before.size && after.mtimeNs === before.mtimeNs
    if (isSame) putStats(stats, n, after)
    else unlinkSync(to)
  } catch {
    // Not every file system has links, nor may everybody link every file: it is written then.
  }
}
