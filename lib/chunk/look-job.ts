import { lstatSync } from 'node:fs'
import { putStats, STATS_FIELDS } from './file-stats.js'
import { splitPaths } from './paths.js'

/** Looks at files by their paths. */
export interface LookJob {
  /** Absolute, as `joinPaths` has them. */
  paths: string
}

/** As `putStats` puts them; zeros for what is not there. */
export function look({ paths }: LookJob): ArrayBuffer {
  const all = splitPaths(paths)
  const stats = new BigInt64Array(all.length * STATS_FIELDS)
  for (const [n, path] of all.entries()) {
    try {
      putStats(stats, n, lstatSync(path, { bigint: true }))
    } catch {
      // Whoever asks sees that it is not there.
    }
  }
  return stats.buffer
}
