import { execFile } from 'node:child_process'
import {
  chmod,
  lstat,
  lutimes,
  mkdir,
  readdir,
  rename,
  rm,
  rmdir,
  statfs,
  symlink,
  utimes
} from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { promisify } from 'node:util'
import { ParcelError } from '../../errors.js'
import type { Place } from '../../format/entry.js'
import type { FileEntry } from '../../format/file-table.js'
import { CHUNK_SIZE, chunkLength } from '../../format/limits.js'
import { leaves } from '../../image/tree-reader.js'
import { makeDurable } from '../../keys/at-rest.js'
import { mountsIn } from '../../mounts.js'
import { hasCode } from '../../paths.js'
import { OrderedWindow } from '../../ordered-window.js'
import type { Work } from '../../progress.js'
import type { Content } from '../../image/contents.js'
import { FileStamps, systemTime, type FileStamp } from '../commit/file-stamps.js'
import { KeptFiles } from './kept-files.js'
import type { OldFile, OldFiles } from './old-files.js'
import { SmallWrites } from './small-writes.js'
import { seconds, writeFile, type WriteFileOptions } from './write-file.js'

/** Enough for two threads to have a batch of small files each, and two more to be gathered. */
const SMALL_AT_ONCE = 256
/** Open at a time. */
const SYNCED_AT_ONCE = 16
/** So many files are synced one by one. */
const FEW = 64

export interface MaterialiseOptions extends Omit<WriteFileOptions, 'onBytes' | 'isSynced'> {
  /** The version's contents from the beginning: to measure, to write, to look at what stayed. */
  contents: () => AsyncIterable<Content>
  /** What is in `dir`, where that is known: what the version has of it is not read from the log. */
  old?: OldFiles | null
  /** Files that are left out: they are served to whoever wants them. */
  isElsewhere?: (entry: FileEntry) => boolean
  /** Adds to the new folder what is of no version. */
  complete?: (dir: string) => Promise<void>
  work: Work
  /** Told when files of `dir` are known by other stamps. */
  onRestamped?: () => Promise<void>
  /** The last chance to refuse: everything is written, nothing replaced. */
  beforeSwap: () => Promise<void>
  /** What was in `dir`, if there was anything, is at `previous` now: what it throws puts it back. */
  afterSwap?: (previous: string | null) => Promise<void>
  /** Nothing is replaced: throws CONFLICT when there is anything in `dir` at the end. */
  isNew?: boolean
}

/** What is being written by this process: two would write over each other. */
const underWay = new Set<string>()

/**
 * Writes a version into `dir`, whole or not at all: it is built beside `dir` under another name,
 * synced, and takes its place by a rename. What was in `dir` before is gone only after that.
 * Returns the stamps of its files.
 */
export async function materialise(dir: string, options: MaterialiseOptions): Promise<FileStamps> {
  const partial = partialOf(dir)
  if (underWay.has(partial)) {
    throw new ParcelError('CONFLICT', `${dir} is being written: wait until that is done`)
  }
  underWay.add(partial)
  try {
    return await write(dir, partial, options)
  } finally {
    underWay.delete(partial)
  }
}

async function write(
  dir: string,
  partial: string,
  options: MaterialiseOptions
): Promise<FileStamps> {
  const previous = previousOf(dir)
  const kept = keptOf(options)
  let isSwapped = false
  try {
    await mkdir(dirname(dir), { recursive: true })
    await removeTree(partial)
    const { total, files } = await measure(dirname(dir), { ...options, kept })
    // Somebody waits for what is mostly served: few files are durable sooner than all of a file system.
    const isEach = options.isElsewhere !== undefined && files <= FEW
    await mkdir(partial)
    await keepMode(dir, partial)
    const stamps = await writeContents(partial, total, { ...options, kept, isEach })
    await options.complete?.(partial)
    await (isEach ? makeDurable(partial) : syncFiles(partial))
    const { signal } = options.work
    await setTimeout(stamps.untilSettled(systemTime()), undefined, { signal })
    stamps.keepSettled(systemTime())
    if (kept?.isAny === true) await options.onRestamped?.()
    await options.beforeSwap()
    await requireNoMounts(dir)
    if (options.isNew === true) await removeEmpty(dir)
    const hadPrevious = options.isNew !== true && (await moveAside(dir, previous))
    try {
      await rename(partial, dir)
    } catch (error) {
      if (hadPrevious) await rename(previous, dir)
      throw error
    }
    try {
      await options.afterSwap?.(hadPrevious ? previous : null)
    } catch (error) {
      await rename(dir, partial)
      await rename(previous, dir)
      throw error
    }
    isSwapped = true
    await makeDurable(dirname(dir))
    if (kept?.isAny === true) {
      await kept.takeOver(previous, stamps, options.contents())
      await setTimeout(stamps.untilSettled(systemTime()))
      stamps.keepSettled(systemTime())
    }
    await removeTree(previous)
    return stamps
  } catch (error) {
    if (!isSwapped && kept?.isAny === true) {
      await kept.giveBack(partial, options.contents())
      await options.onRestamped?.()
    }
    await removeTree(partial).catch(() => {})
    throw ParcelError.from(error, `cannot write ${dir}`)
  }
}

/**
 * Makes a folder where there is none, or an empty one: it appears when `build` has filled another one
 * beside it, synced, or not at all. Throws CONFLICT when something is put there meanwhile.
 */
export async function buildNew<T>(dir: string, build: (partial: string) => Promise<T>): Promise<T> {
  const partial = partialOf(dir)
  if (underWay.has(partial)) {
    throw new ParcelError('CONFLICT', `${dir} is being written: wait until that is done`)
  }
  underWay.add(partial)
  try {
    await mkdir(dirname(dir), { recursive: true })
    await removeTree(partial)
    await mkdir(partial)
    const built = await build(partial)
    await syncFiles(partial)
    await removeEmpty(dir)
    await rename(partial, dir)
    await makeDurable(dirname(dir))
    return built
  } catch (error) {
    await removeTree(partial).catch(() => {})
    throw ParcelError.from(error, `cannot write ${dir}`)
  } finally {
    underWay.delete(partial)
  }
}

/** Whether a crash left a folder that was not swapped in. */
export async function isHalfWritten(dir: string): Promise<boolean> {
  return exists(partialOf(dir))
}

/** Clears up after a crash in the middle of `materialise`: the folder is the old one or the new one. */
export async function recoverFolder(dir: string): Promise<void> {
  if (await exists(dir)) await removeTree(previousOf(dir))
  else await rename(previousOf(dir), dir).catch(() => {})
}

function partialOf(dir: string): string {
  return join(dirname(dir), `.${basename(dir)}.hyperparcel-partial`)
}

function previousOf(dir: string): string {
  return join(dirname(dir), `.${basename(dir)}.hyperparcel-previous`)
}

/** The folder's own mode is the user's affair: no version has it. */
async function keepMode(dir: string, partial: string): Promise<void> {
  const stats = await lstat(dir).catch(() => null)
  if (stats?.isDirectory() === true) await chmod(partial, (stats.mode & 0o7777) | 0o700)
}

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false
  )
}

async function writeContents(
  root: string,
  total: number,
  options: MaterialiseOptions & { kept: KeptFiles | null; isEach: boolean }
): Promise<FileStamps> {
  const { work, old, kept, isEach } = options
  const stamps = new FileStamps()
  const folders: { path: Buffer; entry: FileEntry }[] = []
  let done = 0
  const onBytes = (count: number): void => {
    done += count
    work.report({ step: 'writing', done, total: Math.max(total, done), unit: 'bytes' })
  }
  const atOnce = isEach ? SYNCED_AT_ONCE : SMALL_AT_ONCE
  const files = new OrderedWindow<FileStamp | null>(atOnce, async (stamp) => stamps.push(stamp))
  const small = new SmallWrites({ ...options, onBytes })
  const links: { path: Buffer; entry: FileEntry & { type: 'symlink' } }[] = []
  const write = async (
    path: Buffer,
    { entry, place }: Content,
    before: OldFile | null
  ): Promise<FileStamp | null> => {
    if (entry.type !== 'file' || options.isElsewhere?.(entry) === true) return null
    const stays = before === null ? null : ((await kept?.keep(before, path)) ?? null)
    if (stays !== null) return stays
    if (entry.size <= CHUNK_SIZE && !isEach) return small.write(path, entry, place)
    return inTurn(() =>
      writeFile(path, entry, place, { ...options, before, onBytes, isSynced: isEach })
    )
  }
  // A large one has all the threads, one after the other; after a failure comes none.
  let turn: Promise<FileStamp | null> = Promise.resolve(null)
  const inTurn = (work: () => Promise<FileStamp>): Promise<FileStamp | null> =>
    isEach ? work() : (turn = turn.then(work))
  await files.run(async () => {
    const find = old?.walk()
    for await (const content of options.contents()) {
      work.signal.throwIfAborted()
      const { entry } = content
      const path = Buffer.concat([Buffer.from(`${root}/`), entry.path])
      if (entry.type === 'folder') {
        await mkdir(path, { mode: 0o700 })
        folders.push({ path, entry })
      } else if (entry.type === 'symlink') {
        links.push({ path, entry })
      } else {
        const before = (await find?.(content)) ?? null
        const mayStay = kept !== null && before?.isWanted === true
        await files.push(write(path, content, before), entry.size > CHUNK_SIZE && !mayStay)
      }
    }
  })
  // Symlinks come last, so that nothing is ever written through one.
  for (const { path, entry } of links) {
    await symlink(entry.target, path)
    await lutimes(path, seconds(entry.mtime), seconds(entry.mtime))
  }
  for (const { path, entry } of folders.toReversed()) {
    // Before it may not be read.
    if (isEach) await makeDurable(path)
    await chmod(path, entry.mode)
    await utimes(path, seconds(entry.mtime), seconds(entry.mtime))
  }
  return stamps
}

/**
 * Bytes that will be written, not those of files that stay, and files. Throws DISK_FULL as soon as they are more
 * than there is room for in `parent`: a small hostile table can describe petabytes.
 */
async function measure(
  parent: string,
  {
    contents,
    work,
    source,
    old,
    kept,
    isElsewhere = () => false
  }: MaterialiseOptions & { kept: KeptFiles | null }
): Promise<{ total: number; files: number }> {
  const { bavail, bsize } = await statfs(parent)
  const free = bavail * bsize
  let [total, files] = [0, 0]
  const add = (bytes: number): void => {
    work.signal.throwIfAborted()
    total += bytes
    if (total <= free) return
    const [needed, here] = [Math.ceil(total / 1_048_576), Math.floor(free / 1_048_576)]
    throw new ParcelError(
      'DISK_FULL',
      `not enough space in ${parent}: this version needs ${needed} MiB or more, ${here} are free`
    )
  }
  const addFile = async (
    { size, root }: { size: number; root: Buffer | null },
    place: Place | null
  ) => {
    if (size <= CHUNK_SIZE) return add(root === null ? 0 : size)
    for await (const leaf of leaves(source, { size, root, place })) {
      for (const [i, one] of (leaf.entries ?? []).entries()) {
        if (one.entry.kind !== 'hole') add(chunkLength(size, leaf.first + i))
      }
    }
  }
  const looks = new OrderedWindow<void>(SMALL_AT_ONCE, async () => {})
  await looks.run(async () => {
    const find = old?.walk()
    for await (const content of contents()) {
      work.signal.throwIfAborted()
      const { entry, place } = content
      if (entry.type !== 'file' || isElsewhere(entry)) continue
      files++
      const before = (await find?.(content)) ?? null
      if (kept === null || before?.isWanted !== true) await addFile(entry, place)
      else {
        const look = kept.isThere(before)
        await looks.push(look.then((isThere) => (isThere ? undefined : addFile(entry, place))))
      }
    }
  })
  return { total, files }
}

function keptOf({ old, pool, isElsewhere }: MaterialiseOptions): KeptFiles | null {
  // A machine writes to what is beside the files that are served, and may be stopped at any moment.
  return old === undefined || old === null || isElsewhere !== undefined
    ? null
    : new KeptFiles(old, pool)
}

/** What is mounted in a folder would move away with it, and could not be removed. Throws CONFLICT. */
async function requireNoMounts(dir: string): Promise<void> {
  const [point] = await mountsIn(dir)
  if (point === undefined) return
  throw new ParcelError(
    'CONFLICT',
    `a file system is mounted at ${point}, and ${dir} is to be replaced: unmount it, or choose another folder`
  )
}

/** Throws CONFLICT for a folder with something in it. */
async function removeEmpty(dir: string): Promise<void> {
  try {
    await rmdir(dir)
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return
    if (!hasCode(error, 'ENOTEMPTY', 'EEXIST', 'ENOTDIR')) throw error
    throw new ParcelError('CONFLICT', `${dir} is not empty any more: choose another folder`)
  }
}

/** Moves what is at `dir` out of the way; false when nothing was there. */
async function moveAside(dir: string, previous: string): Promise<boolean> {
  await removeTree(previous)
  try {
    await rename(dir, previous)
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return false
    throw error
  }
}

/** Removes a folder, even one whose subfolders may not be written to. */
async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true })
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : ''
    if (code !== 'EACCES' && code !== 'EPERM') throw error
    await makeWritable(Buffer.from(path))
    await rm(path, { recursive: true, force: true })
  }
}

/** Lets what is in a folder be removed. What a first try has begun to remove may go meanwhile. */
async function makeWritable(folder: Buffer): Promise<void> {
  try {
    await chmod(folder, 0o700)
    for (const entry of await readdir(folder, { encoding: 'buffer', withFileTypes: true })) {
      const path = Buffer.concat([folder, Buffer.from('/'), entry.name])
      if (entry.isDirectory()) await makeWritable(path)
    }
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error
  }
}

/** Makes everything below a folder durable at once: a sync of each of many files takes minutes. */
async function syncFiles(path: string): Promise<void> {
  const args = process.platform === 'linux' ? ['-f', path] : []
  await promisify(execFile)('sync', args)
}
