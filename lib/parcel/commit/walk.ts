import { lstat, readdir } from 'node:fs/promises'
import type { BigIntStats, Dirent } from 'node:fs'
import { printable } from '../../format/file-table.js'
import { MAX_PATH_BYTES } from '../../format/limits.js'

/** Something that was left out of a version, and why. */
export interface Skipped {
  path: string
  why: string
}

export interface Found {
  /** Raw bytes, relative to the root of the walk. */
  path: Buffer
  absolute: Buffer
  stats: BigIntStats
}

const SLASH = Buffer.from('/')
/** Things of a folder that are looked at side by side. */
const AT_ONCE = 32

/**
 * Every file, folder and symlink below `root`, in the order of a file table; nothing is followed.
 * What cannot go into a parcel, or cannot be read, is handed to `skip` and the walk goes on.
 */
export async function* walk(root: string, skip: (skipped: Skipped) => void): AsyncGenerator<Found> {
  yield* below(Buffer.from(root), Buffer.alloc(0), skip)
}

async function* below(
  folder: Buffer,
  prefix: Buffer,
  skip: (skipped: Skipped) => void
): AsyncGenerator<Found> {
  const entries = await readdir(folder, { encoding: 'buffer', withFileTypes: true })
  entries.sort((a, b) => Buffer.compare(a.name, b.name))
  let looked: (BigIntStats | Error)[] = []
  let first = 0
  for (const [n, { name }] of entries.entries()) {
    if (n === first + looked.length) {
      first = n
      const run = entries.slice(n, runEnd(entries, n))
      looked = await Promise.all(
        run.map((entry) => look(Buffer.concat([folder, SLASH, entry.name])))
      )
    }
    const path = prefix.byteLength === 0 ? name : Buffer.concat([prefix, SLASH, name])
    const absolute = Buffer.concat([folder, SLASH, name])
    if (path.byteLength > MAX_PATH_BYTES) {
      skip({ path: printable(path), why: 'its path is longer than 4096 bytes' })
      continue
    }
    const stats = looked[n - first]
    if (stats === undefined || stats instanceof Error) {
      skip({ path: printable(path), why: reason(stats) })
      continue
    }
    if (!stats.isFile() && !stats.isDirectory() && !stats.isSymbolicLink()) {
      skip({ path: printable(path), why: 'not a file, folder or symlink' })
      continue
    }
    yield { path, absolute, stats }
    if (!stats.isDirectory()) continue
    try {
      yield* below(absolute, path, skip)
    } catch (error) {
      if (!isAccessError(error)) throw error
      skip({ path: printable(path), why: reason(error) })
    }
  }
}

/** The end of what is looked at side by side: nothing from behind a folder, which takes its time. */
function runEnd(entries: readonly Dirent<Buffer>[], start: number): number {
  let end = start
  while (end < entries.length && end < start + AT_ONCE) if (entries[end++]?.isDirectory()) break
  return end
}

async function look(absolute: Buffer): Promise<BigIntStats | Error> {
  try {
    return await lstat(absolute, { bigint: true })
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  }
}

/** A file's error in a few words. */
export function reason(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : ''
  if (code === 'EACCES' || code === 'EPERM') return 'no permission to read it'
  if (code === 'ENOENT' || code === 'ENOTDIR') return 'it vanished'
  return error instanceof Error ? error.message : String(error)
}

/** Whether an error is about one file, so that the others can still be read. */
export function isAccessError(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : ''
  return ['EACCES', 'EPERM', 'ENOENT', 'ENOTDIR', 'ELOOP', 'EIO'].includes(String(code))
}
