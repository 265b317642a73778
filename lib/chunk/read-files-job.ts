import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { HASH_BYTES, SUBPAGE_SIZE } from '../format/limits.js'
import { isSparse } from './extents.js'
import { putStats, STATS_FIELDS, type FileStats } from './file-stats.js'
import { chunkId, isZero } from './id.js'
import { splitPaths } from './paths.js'

/** A file of one chunk that is to be read. */
export interface WantedFile {
  absolute: Buffer
  /** Bytes it had when it was found. */
  size: number
}

/** A file of one chunk, read and named. */
export interface SmallFile {
  /** All of it: good until the batch is released. */
  bytes: Buffer
  /** null when it is all zeros. */
  id: Buffer | null
  /** 4 KiB pages that are holes. */
  holes: number
  stats: FileStats
  /** Nanoseconds since 1970, by the system's clock. */
  openedAt: bigint
}

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
  /** Of each the 4 KiB pages that are holes. */
  holes: Uint16Array
  /** When each was opened, in ms since 1970 by the system's clock; 0: it was not read as a whole. */
  openedAt: Float64Array
}

/** Of what is to be read: a link is not followed, and a pipe not waited for. */
export const READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

export function readFiles({ paths, sizes, buffer }: ReadFilesJob): ReadFilesResult {
  const ids = new ArrayBuffer(sizes.length * HASH_BYTES)
  const stats = new BigInt64Array(sizes.length * STATS_FIELDS)
  const holes = new Uint16Array(sizes.length)
  const openedAt = new Float64Array(sizes.length)
  let at = 0
  for (const [n, path] of splitPaths(paths).entries()) {
    const bytes = Buffer.from(buffer, at, sizes[n])
    at += bytes.byteLength
    const time = Date.now()
    const mask = readWhole(path, bytes, { stats, n })
    if (mask === null) continue
    openedAt[n] = time
    holes[n] = mask
    if (!isZero(bytes)) chunkId(bytes).copy(Buffer.from(ids), n * HASH_BYTES)
  }
  return { buffer, ids, stats: stats.buffer, holes, openedAt }
}

/**
 * The holes of a file; null when it is not of just that size, or did not stand still, or when it takes more to
 * tell where its holes are. Whoever asks finds out which.
 */
function readWhole(
  path: Buffer,
  bytes: Buffer,
  { stats, n }: { stats: BigInt64Array; n: number }
): number | null {
  let fd: number | null = null
  try {
    fd = openSync(path, READ_FLAGS)
    const before = fstatSync(fd, { bigint: true })
    const size = BigInt(bytes.byteLength)
    if (!before.isFile() || before.size !== size) return null
    if (readSync(fd, bytes, 0, bytes.byteLength, 0) !== bytes.byteLength) return null
    const after = fstatSync(fd, { bigint: true })
    putStats(stats, n, after)
    return isSameFile(before, after) ? holesOf(bytes, after) : null
  } catch {
    return null
  } finally {
    if (fd !== null) closeSync(fd)
  }
}

/** Whether a file was not written to between two looks. */
export function isSameFile(before: FileStats, after: FileStats): boolean {
  return (
    after.size === before.size &&
    after.mtimeNs === before.mtimeNs &&
    after.ctimeNs === before.ctimeNs
  )
}

/** null when that cannot be told from what is in the file and from the blocks that it takes. */
export function holesOf(bytes: Buffer, stats: FileStats): number | null {
  if (!isSparse(stats)) return 0
  let [zeros, others] = [0, 0]
  for (let at = 0; at < bytes.byteLength; at += SUBPAGE_SIZE) {
    const page = bytes.subarray(at, at + SUBPAGE_SIZE)
    if (isZero(page)) zeros |= 1 << (at / SUBPAGE_SIZE)
    else others++
  }
  // All of the blocks are where something stands: where nothing does there is none.
  const isAll = stats.blocks * 512n === BigInt(others * SUBPAGE_SIZE)
  return others > 0 && isAll ? zeros : null
}
