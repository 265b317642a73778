import { readlink } from 'node:fs/promises'
import type { Scan } from '../../choices.js'
import type { FileStats } from '../../chunk/file-stats.js'
import type { WorkerPool } from '../../chunk/worker-pool.js'
import { ParcelError } from '../../errors.js'
import { printable, type FileEntry, type FileRole } from '../../format/file-table.js'
import { CHUNK_SIZE, CHUNKING } from '../../format/limits.js'
import { BaseTree } from '../../image/base-tree.js'
import type { PackWriter } from '../../log/pack-writer.js'
import { hasCode } from '../../paths.js'
import type { Work } from '../../progress.js'
import { isUnchanged, type BaseFile, type BaseFiles } from './base-files.js'
import { ChangingFile, commitFile, REPLACED, type Before } from './commit-file.js'
import { Gathering } from './gathering.js'
import type { MappedWrites } from './mapped-writes.js'
import { FIRST, roleOf, SMALL_STATE, STILL, streamOf, type Roles } from './roles.js'
import type { DirtyMap } from './scan.js'
import { isSmallFile, type SmallFiles, type StoredFile } from './small-files.js'
import type { Images } from './store-image.js'
import type { Stored } from './stored.js'
import { isAccessError, reason, type Found, type Skip } from './walk.js'

const ATTEMPTS = 3

export interface StoreFileOptions {
  writer: PackWriter
  pool: WorkerPool
  small: SmallFiles
  roles: Roles
  /** The version that the folder continues. */
  base: BaseFiles | null
  scan: Scan
  /** Files of which it is known what was written to them. */
  dirty: DirtyMap
  images: Images | null
  mapped: MappedWrites
  work: Work
  onBytes: (bytes: number) => void
  skip: Skip
}

/**
 * Stores something that a walk found. What changes all the time, or cannot be read, is handed to `skip`; throws
 * FAILED when it is a machine's.
 */
export async function storeFound(
  found: Found,
  before: BaseFile | null,
  options: StoreFileOptions
): Promise<Stored> {
  const { path, stats } = found
  const common = { path, mode: Number(stats.mode & 0o7777n), mtime: stats.mtimeNs, extensions: [] }
  const nowhere = { place: null, stamp: null }
  try {
    if (stats.isDirectory()) return { entry: { ...common, type: 'folder' }, ...nowhere }
    if (stats.isSymbolicLink()) {
      const target = await linkTarget(found.absolute)
      return { entry: { ...common, type: 'symlink', target }, ...nowhere }
    }
    return await storeFile(found, before, options)
  } catch (error) {
    const isAboutThisFile = error instanceof ChangingFile || isAccessError(error)
    if (!isAboutThisFile) throw error
    const role = roleOf(found.name, options.roles)
    if (role !== undefined && role !== 'log') {
      // A machine without its disk or memory is no machine.
      throw new ParcelError('FAILED', `cannot store ${printable(path)}: ${reason(error)}`, error)
    }
    options.skip(path, reason(error))
    return null
  }
}

async function linkTarget(absolute: Buffer): Promise<Buffer> {
  try {
    return await readlink(absolute, { encoding: 'buffer' })
  } catch (error) {
    if (hasCode(error, 'EINVAL')) throw new ChangingFile(REPLACED)
    throw error
  }
}

async function storeFile(
  found: Found,
  before: BaseFile | null,
  options: StoreFileOptions
): Promise<Stored> {
  const { name, stats } = found
  const { small, base, scan, dirty, images, mapped, onBytes } = options
  const role = roleOf(name, options.roles) ?? 'file'
  const stream = streamOf(role)
  const isTracked = scan !== 'full' && Object.hasOwn(dirty, name)
  // Guest memory is mapped by its monitor: it is written to without a trace in the times.
  const maySkip = scan === 'mtime' && !isTracked && stream !== 'memory'
  const isFirst = images !== null && FIRST.has(role) && stats.size <= BigInt(SMALL_STATE)
  if (
    before !== null &&
    maySkip &&
    !isFirst &&
    isUnchanged(before, stats) &&
    (await mapped.leaveTraces(found))
  ) {
    onBytes(allocated(stats))
    return { ...before, entry: { ...before.entry, mode: modeOf(stats), role } }
  }
  if (isFirst) return readFile(found, null, { ...options, role, isFirst })
  const earlier = earlierOf(before, base, isTracked ? dirty[name] : undefined)
  if (earlier === null && isSmallFile(stats)) {
    const size = Number(stats.size)
    const isStill = STILL.has(role)
    const read = await small.store({ absolute: found.absolute, size, stream, before, isStill })
    if (read !== null) {
      onBytes(size)
      return stored(found.path, role, read)
    }
  }
  return readFile(found, earlier, { ...options, role, isFirst })
}

/** Reads what may have changed of a file, up to three times while it changes. */
async function readFile(
  { path, absolute }: Found,
  before: Before | null,
  {
    role,
    isFirst,
    ...options
  }: StoreFileOptions & {
    role: FileRole
    /** Whether a resume reads it before all else. */
    isFirst: boolean
  }
): Promise<Stored> {
  const { images, pool, work, onBytes } = options
  const writer =
    isFirst && images !== null ? new Gathering(options.writer, images.isPacked) : options.writer
  const [stream, isStill, signal] = [streamOf(role), STILL.has(role), work.signal]
  let earlier = before
  for (let attempt = 1; ; attempt++) {
    try {
      const how = { writer, pool, stream, before: earlier, isStill, signal, onBytes }
      return stored(path, role, await commitFile(absolute, how))
    } catch (error) {
      if (earlier !== null && isUnreadable(error)) {
        work.note(`read whole: ${printable(path)}: what it was cannot be read`)
        earlier = null
        continue
      }
      if (!(error instanceof ChangingFile) || attempt === ATTEMPTS) throw error
      // Somebody writes whom no map knows of: from now on all of it is read.
      if (earlier !== null) earlier = { ...earlier, written: null }
      work.note(`read again: ${printable(path)}: ${error.message}`)
    }
  }
}

function stored(path: Buffer, role: FileRole, { tree, stats, stamp }: StoredFile): Stored {
  const entry: FileEntry = {
    type: 'file',
    path,
    mode: modeOf(stats),
    mtime: stats.mtimeNs,
    extensions: [],
    role,
    chunking: CHUNKING,
    size: Number(stats.size),
    root: tree.root
  }
  return { entry, place: tree.place, stamp }
}

/** What a file was, where that can save anything. */
function earlierOf(
  before: BaseFile | null,
  base: BaseFiles | null,
  ranges: DirtyMap[string] | undefined
): Before | null {
  if (before === null || base === null) return null
  const { entry, place } = before
  // Chunks that are named in another way cannot stand beside those that come now.
  if (entry.chunking !== CHUNKING) return null
  if (ranges === undefined && entry.size <= CHUNK_SIZE) return null
  return {
    tree: new BaseTree(base.source, { size: entry.size, root: entry.root, place }),
    written: ranges?.map(([offset, length]) => ({ start: offset, end: offset + length })) ?? null
  }
}

function modeOf({ mode }: FileStats): number {
  return Number(mode & 0o7777n)
}

/** Whether the earlier version failed us, not the file or the store. */
function isUnreadable(error: unknown): boolean {
  return error instanceof ParcelError && ['INTEGRITY', 'UNREACHABLE'].includes(error.code)
}

function allocated({ blocks, size }: FileStats): number {
  const bytes = blocks * 512n
  return Number(bytes < size ? bytes : size)
}
