import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  ftruncateSync,
  futimesSync,
  openSync
} from 'node:fs'
import { putStats, STATS_FIELDS } from './file-stats.js'
import { splitPaths } from './paths.js'
import { writeAround } from './unpack-job.js'

/** A file of one chunk at most, to be made. */
export interface SmallWrite {
  /** Bytes. */
  size: number
  /** Bytes of it that are in the buffer: all, or none of a file that is one hole. */
  length: number
  /** 4 KiB pages that stay holes. */
  holes: number
  mode: number
  /** As utimes takes it. */
  mtime: string
}

/** Makes whole files, out of what is in one buffer one after the other. */
export interface WriteFilesJob {
  /** Absolute, as `joinPaths` has them. */
  paths: string
  files: readonly SmallWrite[]
  buffer: ArrayBuffer
}

export interface WriteFilesResult {
  buffer: ArrayBuffer
  /** Of the files as they are now, as `putStats` puts them. */
  made: ArrayBuffer
}

const FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL

/** Throws errors of the file system as they are. */
export function writeFiles({ paths, files, buffer }: WriteFilesJob): WriteFilesResult {
  const made = new BigInt64Array(files.length * STATS_FIELDS)
  const all = splitPaths(paths)
  let at = 0
  for (const [n, { size, length, holes, mode, mtime }] of files.entries()) {
    const fd = openSync(all[n] ?? '', FLAGS, 0o600)
    try {
      if (holes !== 0 || length < size) ftruncateSync(fd, size)
      writeAround(fd, Buffer.from(buffer, at, length), 0, holes)
      at += length
      fchmodSync(fd, mode)
      futimesSync(fd, mtime, mtime)
      putStats(made, n, fstatSync(fd, { bigint: true }))
    } finally {
      closeSync(fd)
    }
  }
  return { buffer, made: made.buffer }
}
