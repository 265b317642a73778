import { access, constants } from 'node:fs/promises'
import { ParcelError } from '../../errors.js'
import type { FileEntry } from '../../format/file-table.js'
import { printable } from '../../format/file-table.js'
import { walk, type Found, type Skipped } from './walk.js'

/** Check-outs set mtimes through a double: they come back within this many ns. */
export const MTIME_TOLERANCE = 2_000n

/**
 * Throws CONFLICT if a folder has something that its version has not: a file added, gone, or
 * written to since (by type, size and mtime). `contents` null: the folder was never suspended.
 */
export async function requireNoChanges(
  root: string,
  contents: AsyncIterable<{ entry: FileEntry }> | null,
  {
    name,
    isState,
    served
  }: {
    name: string
    isState: (path: string) => boolean
    /** Files that need not be there. */
    served: ReadonlySet<string>
  }
): Promise<void> {
  const stored = new Map<string, FileEntry>()
  for await (const { entry } of contents ?? []) {
    stored.set(entry.path.toString('latin1'), entry)
  }
  const skipped: Skipped[] = []
  for await (const found of walk(root, (what) => void skipped.push(what))) {
    const { path, stats } = found
    const text = path.toString('latin1')
    const entry = stored.get(text)
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
    const age = stats.mtimeNs - entry.mtime
    const isSameTime = age < MTIME_TOLERANCE && age > -MTIME_TOLERANCE
    const isSameSize = entry.type === 'symlink' || BigInt(entry.size) === stats.size
    const isSameType = entry.type === 'symlink' ? stats.isSymbolicLink() : stats.isFile()
    if (!isSameTime || !isSameSize || !isSameType) throw changed(name, path, 'was changed')
  }
  const [lost] = skipped
  if (lost !== undefined) throw inNoVersion(lost.path, lost.why, root)
  for (const [text, entry] of stored) {
    if (isState(text) || served.has(entry.path.toString())) continue
    throw changed(name, entry.path, 'was removed')
  }
}

/** Throws CONFLICT if a folder has something that no suspend could store, and its version has not. */
export async function requireAllStored(
  root: string,
  contents: AsyncIterable<{ entry: FileEntry }>,
  { isState }: { isState: (path: string) => boolean }
): Promise<void> {
  const skipped: Skipped[] = []
  const suspects = new Map<string, string>()
  for await (const found of walk(root, (what) => void skipped.push(what))) {
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
