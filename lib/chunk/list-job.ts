import { lstatSync, readdirSync } from 'node:fs'
import { failureOf, type Failure } from './failure.js'
import { putStats, STATS_FIELDS, type FileStats } from './file-stats.js'
import { below, splitPaths } from './paths.js'

/** What is in a folder, in the order of the names' bytes. */
export interface Listing {
  names: Buffer[]
  /** An error for what cannot be looked at. */
  stats: (FileStats | Error)[]
}

/** Lists folders, and looks at what is in each, as lstat(2) does; nothing is followed. */
export interface ListJob {
  /** Absolute, as `joinPaths` has them. */
  folders: string
}

export interface ListedFolder {
  /** Of the folder itself. */
  failure: Failure | null
  /** In the order of their bytes, a NUL behind each. */
  names: ArrayBuffer
  /** In the same order, as `putStats` puts them. */
  stats: ArrayBuffer
  /** Of single things in it, by their number. */
  failures: [number, Failure][]
}

export function list({ folders }: ListJob): ListedFolder[] {
  return splitPaths(folders).map(listFolder)
}

function listFolder(folder: Buffer): ListedFolder {
  let names: Buffer[] = []
  try {
    names = readdirSync(folder, 'buffer').toSorted((a, b) => Buffer.compare(a, b))
  } catch (error) {
    const [none, stats] = [new ArrayBuffer(0), new ArrayBuffer(0)]
    return { failure: failureOf(error), names: none, stats, failures: [] }
  }
  const failures: ListedFolder['failures'] = []
  const stats = new BigInt64Array(names.length * STATS_FIELDS)
  const joined = Buffer.alloc(names.reduce((sum, name) => sum + name.byteLength + 1, 0))
  let end = 0
  for (const [n, name] of names.entries()) {
    end += name.copy(joined, end) + 1
    try {
      putStats(stats, n, lstatSync(below(folder, name), { bigint: true }))
    } catch (error) {
      failures.push([n, failureOf(error)])
    }
  }
  return { failure: null, names: joined.buffer, stats: stats.buffer, failures }
}
