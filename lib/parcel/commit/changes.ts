import { access, constants, readlink } from 'node:fs/promises'
import type { WorkerPool } from '../../chunk/worker-pool.js'
import { ParcelError } from '../../errors.js'
import type { FileEntry } from '../../format/file-table.js'
import { printable } from '../../format/file-table.js'
import { CHUNKING } from '../../format/limits.js'
import { ChangingFile } from './commit-file.js'
import { rootOf } from './file-root.js'
import type { FileStamp, FileStamps } from './file-stamps.js'
import { MappedWrites } from './mapped-writes.js'
import { isAccessError, VANISHED, walk, type Found, type Skip, type Skipped } from './walk.js'

/** Check-outs set mtimes through a double: they come back within this many ns. */
export const MTIME_TOLERANCE = 2_000n
/** Bits of a mode that a check-out can give back whoever it is, on any file system that has modes. */
const PERMISSIONS = 0o777

/**
 * Throws CONFLICT if a folder has something that its version has not: a file added, gone, or
 * written to since. A file whose stamp is not the version's is read, if nothing else tells. `contents`
 * null: the folder was never suspended.
 */
export async function requireNoChanges(
  root: string,
  contents: AsyncIterable<{ entry: FileEntry }> | null,
  {
    name,
    isState,
    served,
    stamps,
    pool,
    signal
  }: {
    name: string
    stamps: FileStamps
    pool: WorkerPool
    signal: AbortSignal
    isState: (path: string) => boolean
    /** Files that need not be there. */
    served: ReadonlySet<string>
  }
): Promise<void> {
  const stored = new Map<string, { entry: FileEntry; stamp: FileStamp | null }>()
  let files = 0
  for await (const { entry } of contents ?? []) {
    const stamp = entry.type === 'file' ? stamps.at(files++) : null
    stored.set(entry.path.toString('latin1'), { entry, stamp })
  }
  const { skipped, skip } = gathering()
  const mapped = new MappedWrites()
  for await (const found of walk(root, skip, pool)) {
    const { path, absolute, stats } = found
    const text = path.toString('latin1')
    const { entry, stamp = null } = stored.get(text) ?? {}
    stored.delete(text)
    if (isState(text)) continue
    if (entry === undefined) {
      if (!(await isReadable(found))) throw inNoVersion(printable(path), UNREADABLE, root)
      throw changed(name, path, 'is new')
    }
    if (entry.type === 'folder') {
      if (!stats.isDirectory()) throw changed(name, path, 'is no folder any more')
      continue
    }
    if (entry.type === 'symlink') {
      const isSame = stats.isSymbolicLink() && (await linkTarget(absolute))?.equals(entry.target)
      if (isSame !== true) throw changed(name, path, 'was changed')
      continue
    }
    const age = stats.mtimeNs - entry.mtime
    const isSameTime = age < MTIME_TOLERANCE && age > -MTIME_TOLERANCE
    const isSameSize = BigInt(entry.size) === stats.size
    if (!isSameTime || !isSameSize || !stats.isFile()) throw changed(name, path, 'was changed')
    const isAsStamped = stamp?.ino === stats.ino && stamp.ctime === stats.ctimeNs
    if (isAsStamped && (await mapped.leaveTraces(found))) continue
    if ((Number(stats.mode) & PERMISSIONS) !== (entry.mode & PERMISSIONS)) {
      throw changed(name, path, 'has another mode')
    }
    if (entry.chunking !== CHUNKING) continue
    const now = await rootOf(absolute, { pool, signal }).catch((error: unknown) => {
      if (error instanceof ChangingFile || isAccessError(error)) return undefined
      throw error
    })
    const isSame = entry.root === null ? now === null : now?.equals(entry.root)
    if (isSame !== true) throw changed(name, path, 'was changed')
  }
  const [lost] = skipped
  if (lost !== undefined) throw inNoVersion(lost.path, lost.why, root)
  for (const [text, { entry }] of stored) {
    if (isState(text) || served.has(entry.path.toString())) continue
    throw changed(name, entry.path, 'was removed')
  }
}

/** null: it is no link any more. */
function linkTarget(absolute: Buffer): Promise<Buffer | null> {
  return readlink(absolute, { encoding: 'buffer' }).catch(() => null)
}

/** Throws CONFLICT if a folder has something that no suspend could store, and its version has not. */
export async function requireAllStored(
  root: string,
  contents: AsyncIterable<{ entry: FileEntry }>,
  { pool, isState }: { pool: WorkerPool; isState: (path: string) => boolean }
): Promise<void> {
  const { skipped, skip } = gathering()
  const suspects = new Map<string, string>()
  for await (const found of walk(root, skip, pool)) {
    const text = found.path.toString('latin1')
    if (isState(text) || (await isReadable(found))) continue
    suspects.set(text, printable(found.path))
  }
  const lost = skipped.find(({ path }) => !isState(path))
  if (lost !== undefined) throw inNoVersion(lost.path, lost.why, root, '')
  if (suspects.size === 0) return
  for await (const { entry } of contents) suspects.delete(entry.path.toString('latin1'))
  for (const path of suspects.values()) throw inNoVersion(path, UNREADABLE, root, '')
}

/** What a walk cannot give. What is not there any more cannot be lost. */
function gathering(): { skipped: Skipped[]; skip: Skip } {
  const skipped: Skipped[] = []
  const skip: Skip = (path, why) => {
    if (why !== VANISHED) skipped.push({ path: printable(path), why })
  }
  return { skipped, skip }
}

const UNREADABLE = 'no permission to read it'

async function isReadable({ absolute, stats }: Found): Promise<boolean> {
  if (stats.isSymbolicLink()) return true
  return access(absolute, constants.R_OK).then(
    () => true,
    () => false
  )
}

function inNoVersion(
  path: string,
  why: string,
  root: string,
  otherwise = ', or --force to lose it'
): ParcelError {
  return new ParcelError(
    'CONFLICT',
    `${path} is in no version (${why}): move it out of ${root} first${otherwise}`
  )
}

function changed(name: string, path: Buffer, what: string): ParcelError {
  return new ParcelError(
    'CONFLICT',
    `${printable(path)} ${what} since the last suspend: 'hyperparcel suspend ${name}' first, ` +
      'or --force to lose it'
  )
}
