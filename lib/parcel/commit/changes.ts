import { access, constants, readlink } from 'node:fs/promises'
import type { FileStats } from '../../chunk/file-stats.js'
import type { WorkerPool } from '../../chunk/worker-pool.js'
import { ParcelError } from '../../errors.js'
import type { FileEntry } from '../../format/file-table.js'
import { comparePaths, printable } from '../../format/file-table.js'
import { CHUNK_SIZE, CHUNKING } from '../../format/limits.js'
import { OrderedWindow } from '../../ordered-window.js'
import { sideBySide } from '../../side-by-side.js'
import { ChangingFile } from './commit-file.js'
import { FileRoots } from './file-root.js'
import type { FileStamp, FileStamps } from './file-stamps.js'
import { MappedWrites } from './mapped-writes.js'
import { isAccessError, VANISHED, walk, type Found, type Skip, type Skipped } from './walk.js'

/** Check-outs set mtimes through a double: they come back within this many ns. */
export const MTIME_TOLERANCE = 2_000n
/** Bits of a mode that a check-out can give back whoever it is, on any file system that has modes. */
const PERMISSIONS = 0o777
/** Small files that are looked at side by side. */
const AT_ONCE = 256

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
  const { skipped, skip } = gathering()
  const roots = new FileRoots({ pool, signal })
  const mapped = new MappedWrites()
  const window = new OrderedWindow<{ path: Buffer; why: string | null }>(AT_ONCE, async (one) => {
    if (one.why !== null) throw changed(name, one.path, one.why)
  })
  const removed: Buffer[] = []
  const found = walk(root, skip, pool)
  const byPath = (one: Found, { entry }: Stored): number => comparePaths(one.path, entry.path)
  await window.run(async () => {
    for await (const [one, stored] of sideBySide(found, stampedBy(stamps, contents), byPath)) {
      const path = one === null ? stored.entry.path : one.path
      if (isState(path.toString('latin1'))) continue
      if (one === null) {
        if (removed.length === 0 && !served.has(path.toString())) removed.push(path)
      } else if (stored !== null) {
        const looked = difference(one, stored, { roots, mapped }).then((why) => ({ path, why }))
        await window.push(looked, one.stats.size > BigInt(CHUNK_SIZE))
      } else if (await isReadable(one)) {
        throw changed(name, path, 'is new')
      } else {
        throw inNoVersion(printable(path), UNREADABLE, root)
      }
    }
  })
  const [lost] = skipped
  if (lost !== undefined) throw inNoVersion(lost.path, lost.why, root)
  const [gone] = removed
  if (gone !== undefined) throw changed(name, gone, 'was removed')
}

/** Something that a version has. */
interface Stored {
  entry: FileEntry
  stamp: FileStamp | null
}

async function* stampedBy(
  stamps: FileStamps,
  contents: AsyncIterable<{ entry: FileEntry }> | null
): AsyncGenerator<Stored> {
  let files = 0
  for await (const { entry } of contents ?? []) {
    yield { entry, stamp: entry.type === 'file' ? stamps.at(files++) : null }
  }
}

/** What about something is not as a version has it; null: nothing. */
async function difference(
  found: Found,
  { entry, stamp }: Stored,
  { roots, mapped }: { roots: FileRoots; mapped: MappedWrites }
): Promise<string | null> {
  const { stats } = found
  if (entry.type === 'folder') return stats.isDirectory() ? null : 'is no folder any more'
  if (entry.type === 'symlink') {
    const target = stats.isSymbolicLink() ? await linkTarget(found.absolute) : null
    return target?.equals(entry.target) === true ? null : 'was changed'
  }
  if (!isAsStored(entry, stats)) return 'was changed'
  const isAsStamped = stamp?.ino === stats.ino && stamp.ctime === stats.ctimeNs
  if (isAsStamped && (await mapped.leaveTraces(found))) return null
  if ((Number(stats.mode) & PERMISSIONS) !== (entry.mode & PERMISSIONS)) return 'has another mode'
  if (entry.chunking !== CHUNKING) return null
  const now = await roots.of(found).catch((error: unknown) => {
    if (error instanceof ChangingFile || isAccessError(error)) return undefined
    throw error
  })
  const isSame = entry.root === null ? now === null : now?.equals(entry.root)
  return isSame === true ? null : 'was changed'
}

/** Whether a file has, by its size and mtime, what a version has. */
export function isAsStored(entry: FileEntry & { type: 'file' }, stats: FileStats): boolean {
  const age = stats.mtimeNs - entry.mtime
  const isSameTime = age < MTIME_TOLERANCE && age > -MTIME_TOLERANCE
  return isSameTime && stats.isFile() && BigInt(entry.size) === stats.size
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
