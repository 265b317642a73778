import { linkSync, lstatSync, realpathSync, unlinkSync, type BigIntStats } from 'node:fs'
import { putStats, STATS_FIELDS } from './file-stats.js'
import { joinPaths, splitPaths } from './paths.js'

/** A file with two paths, now or soon, as it was when it was looked at last. */
export interface NamedTwice {
  /** Absolute: the name that it has, or keeps. */
  path: Buffer
  /** Absolute: the second one. */
  second: Buffer
  ino: bigint
  ctime: bigint
}

/** Many of them, packed. */
export interface NamesJob {
  /** As `joinPaths` has them. */
  paths: string
  seconds: string
  /** Inode and ctime of each. */
  known: BigInt64Array
}

export function namesJob(files: readonly NamedTwice[]): NamesJob {
  return {
    paths: joinPaths(files.map(({ path }) => path)),
    seconds: joinPaths(files.map(({ second }) => second)),
    known: new BigInt64Array(files.flatMap(({ ino, ctime }) => [ino, ctime]))
  }
}

/**
 * Gives files a second name. Of those that have it the stats as they are then, as `putStats` puts them; zeros for
 * one that is not as it was known, or can have none: not every file system has links, nor may everybody link all.
 */
export function linkFiles(job: NamesJob): ArrayBuffer {
  const real = new RealFolders()
  return eachKnown(job, ({ path, second, before }) => {
    // One that has two names already is somebody else's, too, and so is what is behind a link.
    if (before.nlink !== 1n || !real.has(path)) return null
    linkSync(path, second)
    const after = lstatSync(second, { bigint: true })
    if (isSame(before, after)) return after
    unlinkSync(second)
    return null
  })
}

/**
 * Takes the second name from files again, which changes the time by which they are known: the stats after that, as
 * `putStats` puts them, or zeros for one that somebody has changed meanwhile.
 */
export function unlinkFiles(job: NamesJob): ArrayBuffer {
  const real = new RealFolders()
  return eachKnown(job, ({ path, second, before }) => {
    const isSecond = lstatSync(second, { bigint: true, throwIfNoEntry: false })?.ino === before.ino
    // Both paths could lead to the one name that there is.
    if (before.nlink > 1n && isSecond && real.has(second)) unlinkSync(second)
    const after = lstatSync(path, { bigint: true })
    return isSame(before, after) && after.nlink === 1n ? after : null
  })
}

/** The stats of files that are as they are known, as `putStats` puts them, or zeros. */
export function lookAtFiles(job: NamesJob): ArrayBuffer {
  return eachKnown(job, ({ before }) => before)
}

interface Known {
  path: Buffer
  second: Buffer
  before: BigIntStats
}

function eachKnown(
  { paths, seconds, known }: NamesJob,
  work: (file: Known) => BigIntStats | null
): ArrayBuffer {
  const others = splitPaths(seconds)
  const stats = new BigInt64Array(others.length * STATS_FIELDS)
  for (const [n, path] of splitPaths(paths).entries()) {
    try {
      const before = lstatSync(path, { bigint: true })
      const isInode = BigInt.asIntN(64, before.ino) === known[2 * n]
      if (!isInode || before.ctimeNs !== known[2 * n + 1] || !before.isFile()) continue
      const now = work({ path, second: others[n] ?? path, before })
      if (now !== null) putStats(stats, n, now)
    } catch {
      // Whoever asked sees that nothing is known of it.
    }
  }
  return stats.buffer
}

function isSame(before: BigIntStats, after: BigIntStats): boolean {
  return (
    after.ino === before.ino &&
    after.size === before.size &&
    after.mtimeNs === before.mtimeNs &&
    after.mode === before.mode
  )
}

/** Whether folders are where their paths say: not behind a link. */
class RealFolders {
  #last: Buffer = Buffer.alloc(0)
  #isReal = false

  /** Of the folder that a file is in. */
  has(path: Buffer): boolean {
    const folder = path.subarray(0, path.lastIndexOf('/'))
    if (!this.#last.equals(folder)) {
      this.#isReal = realpathSync.native(folder, { encoding: 'buffer' }).equals(folder)
      this.#last = folder
    }
    return this.#isReal
  }
}
