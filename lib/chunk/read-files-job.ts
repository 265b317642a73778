import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { HASH_BYTES } from '../format/limits.js'
import { isSparse } from './extents.js'
import { putStats, STATS_FIELDS } from './file-stats.js'
import { chunkId, isZero } from './id.js'
import { splitPaths } from './paths.js'

/** Reads whole files of one chunk, one after the other into one buffer, and names what is in them. */
export interface ReadFilesJob {
  /** Absolute, as `joinPaths` has them. */
  paths: string
  /** Bytes of each. */
  sizes: readonly number[]
  /** With room for all of them. */
  buffer: ArrayBuffer
}

export interface ReadFilesResult {
  buffer: ArrayBuffer
  /** 32 bytes a file; zeros for one of zeros. */
  ids: ArrayBuffer
  /** As `putStats` puts them. */
  stats: ArrayBuffer
  /** When each was opened, in ms since 1970 by the system's clock; 0: it was not read as a whole. */
  openedAt: Float64Array
}

const FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

export function readFiles({ paths, sizes, buffer }: ReadFilesJob): ReadFilesResult {
  const ids = new ArrayBuffer(sizes.length * HASH_BYTES)
  const stats = new BigInt64Array(sizes.length * STATS_FIELDS)
  const openedAt = new Float64Array(sizes.length)
  let at = 0
  for (const [n, path] of splitPaths(paths).entries()) {
    const bytes = Buffer.from(buffer, at, sizes[n])
    at += bytes.byteLength
    const time = Date.now()
    if (!readWhole(path, bytes, { stats, n })) continue
    openedAt[n] = time
    if (!isZero(bytes)) chunkId(bytes).copy(Buffer.from(ids), n * HASH_BYTES)
  }
  return { buffer, ids, stats: stats.buffer, openedAt }
}

/** Whether a file is one without holes, of just that size, and stood still. Whoever asks finds out why it is not. */
function readWhole(
  path: Buffer,
  bytes: Buffer,
  { stats, n }: { stats: BigInt64Array; n: number }
): boolean {
  let fd: number | null = null
  try {
    fd = openSync(path, FLAGS)
    const before = fstatSync(fd, { bigint: true })
    const size = BigInt(bytes.byteLength)
    if (!before.isFile() || before.size !== size || isSparse(before)) return false
    if (readSync(fd, bytes, 0, bytes.byteLength, 0) !== bytes.byteLength) return false
    const after = fstatSync(fd, { bigint: true })
    putStats(stats, n, after)
    return (
      after.size === size && after.mtimeNs === before.mtimeNs && after.ctimeNs === before.ctimeNs
    )
  } catch {
    return false
  } finally {
    if (fd !== null) closeSync(fd)
  }
}
