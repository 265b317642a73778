import { execFile } from 'node:child_process'
import { constants } from 'node:fs'
import {
  chmod,
  lstat,
  lutimes,
  mkdir,
  open,
  rename,
  rm,
  statfs,
  symlink,
  utimes
} from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { ParcelError } from '../errors.js'
import type { FileEntry } from '../format/file-table.js'
import { CHUNK_SIZE, chunkLength, SUBPAGE_SIZE } from '../format/limits.js'
import { entryIds, type Entry, type Place } from '../format/entry.js'
import type { ItemSource } from '../image/items.js'
import { leaves, readChunk } from '../image/tree-reader.js'
import { syncFolder } from '../keys/at-rest.js'
import { OrderedWindow } from '../ordered-window.js'
import type { Work } from '../progress.js'
import type { Content } from './contents.js'
import { walk } from './walk.js'

/** Chunks read ahead of the one being written. */
const AHEAD = 32
const SMALL_AT_ONCE = 16

export interface MaterialiseOptions {
  source: ItemSource
  /** The version's contents, twice: to measure, then to write. */
  contents: () => AsyncIterable<Content>
  work: Work
  /** Told of each item that is here now, so that later versions need not store it again. */
  onItems: (items: { id: Buffer; place: Place }[]) => Promise<void>
  /** The last chance to refuse: everything is written, nothing replaced. */
  beforeSwap: () => Promise<void>
}

/**
 * Writes a version into `dir`, whole or not at all: it is built beside `dir` under another name,
 * synced, and takes its place by a rename. What was in `dir` before is gone only after that.
 */
export async function materialise(dir: string, options: MaterialiseOptions): Promise<void> {
  const partial = partialOf(dir)
  const previous = previousOf(dir)
  try {
    await mkdir(dirname(dir), { recursive: true })
    const total = await measure(options, dirname(dir))
    await removeTree(partial)
    await mkdir(partial)
    await keepMode(dir, partial)
    await writeContents(partial, total, options)
    await syncFiles(partial)
    options.work.signal.throwIfAborted()
    await options.beforeSwap()
    const hadPrevious = await moveAside(dir, previous)
    try {
      await rename(partial, dir)
    } catch (error) {
      if (hadPrevious) await rename(previous, dir)
      throw error
    }
    await syncFolder(dirname(dir))
    await removeTree(previous)
  } catch (error) {
    await removeTree(partial).catch(() => {})
    throw ParcelError.from(error, `cannot write ${dir}`)
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
  options: MaterialiseOptions
): Promise<void> {
  const { work } = options
  const folders: { path: Buffer; entry: FileEntry }[] = []
  let done = 0
  const onBytes = (count: number): void => {
    done += count
    work.report({ step: 'writing', done, total: Math.max(total, done), unit: 'bytes' })
  }
  const files = new OrderedWindow(SMALL_AT_ONCE, async () => {})
  const links: { path: Buffer; entry: FileEntry & { type: 'symlink' } }[] = []
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
      const written = writeFile(path, entry, content.place, onBytes, options)
      await files.push(written, entry.size > CHUNK_SIZE)
    }
  }
  await files.end()
  // Symlinks come last, so that nothing is ever written through one.
  for (const { path, entry } of links) {
    await symlink(entry.target, path)
    await lutimes(path, seconds(entry.mtime), seconds(entry.mtime))
  }
  for (const { path, entry } of folders.toReversed()) {
    await chmod(path, entry.mode)
    await utimes(path, seconds(entry.mtime), seconds(entry.mtime))
  }
}

async function writeFile(
  path: Buffer,
  entry: FileEntry & { type: 'file' },
  place: Place | null,
  onBytes: (bytes: number) => void,
  { source, work, onItems }: MaterialiseOptions
): Promise<void> {
  const handle = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600)
  try {
    await handle.truncate(entry.size)
    const pending: Promise<void>[] = []
    for await (const leaf of leaves(source, { size: entry.size, root: entry.root, place })) {
      if (leaf.entries === null) continue
      const items: { id: Buffer; place: Place }[] = []
      const ofLeaf: Promise<void>[] = []
      for (const [i, one] of leaf.entries.entries()) {
        work.signal.throwIfAborted()
        const index = leaf.first + i
        const length = chunkLength(entry.size, index)
        const written = readChunk(source, one, length).then(async (chunk) => {
          if (chunk === null) return
          entryIds(one.entry).forEach((id, n) => {
            const at = one.places[n]
            if (at !== undefined) items.push({ id, place: at })
          })
          await writeChunk(handle, index * CHUNK_SIZE, chunk, one.entry)
          onBytes(length)
        })
        written.catch(() => {})
        ofLeaf.push(written)
        pending.push(written)
        if (pending.length >= AHEAD) await pending.shift()
      }
      // Only what has proved to be what it should is remembered.
      await Promise.all(ofLeaf)
      await onItems(items)
    }
    await Promise.all(pending)
    await handle.chmod(entry.mode)
    await handle.utimes(seconds(entry.mtime), seconds(entry.mtime))
  } finally {
    await handle.close()
  }
}

/** Writes a chunk but not its holes, which stay holes of the file. */
async function writeChunk(
  handle: FileHandle,
  offset: number,
  chunk: Buffer,
  entry: Entry
): Promise<void> {
  const holes = entry.kind === 'chunk' || entry.kind === 'zero' ? entry.holes : 0
  let start = 0
  while (start < chunk.byteLength) {
    const isHole = (at: number): boolean => (holes & (1 << (at / SUBPAGE_SIZE))) !== 0
    let end = start
    while (end < chunk.byteLength && isHole(end) === isHole(start)) end += SUBPAGE_SIZE
    end = Math.min(end, chunk.byteLength)
    if (!isHole(start)) await writeFully(handle, chunk.subarray(start, end), offset + start)
    start = end
  }
}

async function writeFully(handle: FileHandle, bytes: Buffer, position: number): Promise<void> {
  let written = 0
  while (written < bytes.byteLength) {
    const rest = bytes.subarray(written)
    written += (await handle.write(rest, 0, rest.byteLength, position + written)).bytesWritten
  }
}

/**
 * Bytes that will be written. Throws DISK_FULL as soon as they are more than there is room for in
 * `parent`: a small hostile table can describe petabytes.
 */
async function measure(
  { contents, work, source }: MaterialiseOptions,
  parent: string
): Promise<number> {
  const { bavail, bsize } = await statfs(parent)
  const free = bavail * bsize
  let total = 0
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
  for await (const { entry, place } of contents()) {
    if (entry.type !== 'file') continue
    if (entry.size <= CHUNK_SIZE) {
      add(entry.root === null ? 0 : entry.size)
      continue
    }
    for await (const leaf of leaves(source, { size: entry.size, root: entry.root, place })) {
      for (const [i, one] of (leaf.entries ?? []).entries()) {
        if (one.entry.kind !== 'hole') add(chunkLength(entry.size, leaf.first + i))
      }
    }
  }
  return total
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
    await chmod(path, 0o700)
    for await (const { absolute, stats } of walk(path, () => {})) {
      if (stats.isDirectory()) await chmod(absolute, 0o700)
    }
    await rm(path, { recursive: true, force: true })
  }
}

/** Makes everything below a folder durable at once: a sync of each of many files takes minutes. */
async function syncFiles(path: string): Promise<void> {
  const args = process.platform === 'linux' ? ['-f', path] : []
  await promisify(execFile)('sync', args)
}

/** Nanoseconds as seconds since 1970, the way utimes takes them. */
function seconds(mtime: bigint): number {
  return Number(mtime / 1_000n) / 1e6
}
