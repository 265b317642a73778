import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import type { ChunkWrite } from '../../chunk/unpack-job.js'
import { READ_FLAGS } from '../../chunk/read-files-job.js'
import { writeAround } from '../../chunk/unpack-job.js'
import type { WorkerPool } from '../../chunk/worker-pool.js'
import { entryIds, type Place } from '../../format/entry.js'
import type { FileEntry } from '../../format/file-table.js'
import { CHUNK_SIZE, chunkLength } from '../../format/limits.js'
import {
  leaves,
  readChunk,
  type FileTree,
  type Leaf,
  type LeafEntry
} from '../../image/tree-reader.js'
import type { PackReader } from '../../log/pack-reader.js'
import type { Work } from '../../progress.js'
import type { FileStamp } from '../commit/file-stamps.js'
import type { OldFile } from './old-files.js'

/** Leaves whose chunks are gathered by pack, so that each pack is opened once for all of them. */
const WINDOW = 8
/** Packs that are opened side by side. */
const AT_ONCE = 6
/** So much is written before the disk is told to begin. */
const SYNC_BYTES = 128 * 1_048_576

export interface WriteFileOptions {
  source: PackReader
  pool: WorkerPool
  work: Work
  /** Told of each item that is here now, so that later versions need not store it again. */
  onItems: (items: Item[]) => Promise<void>
  onBytes: (bytes: number) => void
  /** Whether each file is to be durable when it is written, or all of them at the end. */
  isSynced: boolean
}

/** Chunks that are looked for in the file from before in one go: a thread's job. */
const REUSED_AT_ONCE = 16

/** An item of a file, and where it is. */
export interface Item {
  id: Buffer
  place: Place
}

/** A chunk, where it is and where it goes. */
interface Extraction {
  place: Place
  write: ChunkWrite
  id: Buffer
}

/**
 * Writes a file of a version, with its holes, mode and time. Chunks that `before` has, too, are copied from it.
 * Nothing unverified is written. Returns its stamp.
 */
export async function writeFile(
  path: Buffer,
  entry: FileEntry & { type: 'file' },
  place: Place | null,
  { before, ...options }: WriteFileOptions & { before: OldFile | null }
): Promise<FileStamp> {
  const handle = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600)
  try {
    await handle.truncate(entry.size)
    const { size, chunking, root } = entry
    const tree = { size, chunking, root, place }
    // A small file shares its pack with others, which the reader keeps open for them.
    if (entry.size <= CHUNK_SIZE) {
      for await (const leaf of leaves(options.source, tree)) {
        await writeWindow([leaf], { handle, old: null }, tree, options)
      }
    } else {
      const old = before === null ? null : await openOld(before)
      try {
        await writeLarge({ handle, old }, tree, options)
      } finally {
        await old?.handle.close()
      }
    }
    await handle.chmod(entry.mode)
    await handle.utimes(seconds(entry.mtime), seconds(entry.mtime))
    if (options.isSynced) await handle.sync()
    const { ino, ctimeNs } = await handle.stat({ bigint: true })
    return { ino, ctime: ctimeNs }
  } finally {
    await handle.close()
  }
}

/** null for what is no file, or cannot be read: it need not be. */
async function openOld(file: OldFile): Promise<Files['old']> {
  const handle = await open(file.path, READ_FLAGS).catch(() => null)
  if (handle === null) return null
  const stats = await handle.stat().catch(() => null)
  if (stats?.isFile() === true) return { file, handle }
  await handle.close()
  return null
}

/** A file that is written, and what was there before. */
interface Files {
  handle: FileHandle
  old: { file: OldFile; handle: FileHandle } | null
}

async function writeLarge(files: Files, tree: FileTree, options: WriteFileOptions): Promise<void> {
  let window: Leaf[] = []
  let unsynced = 0
  let syncing: Promise<void> = Promise.resolve()
  const flush = async (): Promise<void> => {
    unsynced += await writeWindow(window, files, tree, options)
    window = []
    if (unsynced < SYNC_BYTES) return
    unsynced = 0
    // All of it is synced at the end; begun now, the disk works while we do.
    await syncing
    syncing = files.handle.datasync()
    syncing.catch(() => {})
  }
  try {
    for await (const leaf of leaves(options.source, tree)) {
      if (leaf.entries === null) continue
      window.push(leaf)
      if (window.length === WINDOW) await flush()
    }
    await flush()
  } finally {
    await syncing
  }
}

/** Writes the chunks of some leaves; returns how many bytes. */
async function writeWindow(
  window: readonly Leaf[],
  { handle, old }: Files,
  { size, chunking }: FileTree,
  options: WriteFileOptions
): Promise<number> {
  const { source, pool, work, onItems, onBytes } = options
  const wanted: Extraction[] = []
  const items: Item[] = []
  let bytes = 0
  for (const { first, entries } of window) {
    for (const [i, one] of (entries ?? []).entries()) {
      const index = first + i
      const length = chunkLength(size, index)
      if (one.entry.kind === 'hole') continue
      bytes += length
      items.push(...itemsOf(one))
      const [place] = one.places
      if (one.entry.kind === 'chunk' && place !== undefined && size > CHUNK_SIZE) {
        const { holes, id } = one.entry
        const at = index * CHUNK_SIZE
        wanted.push({
          place,
          id,
          write: { ordinal: place.ordinal, fd: handle.fd, at, length, holes }
        })
      } else {
        work.signal.throwIfAborted()
        const chunk = await readChunk(source, one, { length, chunking })
        if (chunk !== null) writeAround(handle.fd, chunk, index * CHUNK_SIZE, holesOf(one))
        onBytes(length)
      }
    }
  }
  const missing = old === null ? wanted : await reuse(wanted, old, { chunking, ...options })
  const waiting = [...byPack(missing).values()]
  const extractNext = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      work.signal.throwIfAborted()
      const [first] = next
      if (first === undefined) continue
      await source.extract(first.place, { chunking, ...writesOf(next) }, pool)
      onBytes(bytesOf(next))
    }
  }
  // The descriptor must stay open while a thread writes to it.
  const done = await Promise.allSettled(Array.from({ length: AT_ONCE }, extractNext))
  for (const result of done) if (result.status === 'rejected') throw result.reason
  // Only what has proved to be what it should is remembered.
  await onItems(items)
  return bytes
}

/** Copies the chunks that the file before has; gives the others. */
async function reuse(
  wanted: readonly Extraction[],
  { file, handle }: NonNullable<Files['old']>,
  { chunking, pool, work, onBytes }: Pick<FileTree, 'chunking'> & WriteFileOptions
): Promise<Extraction[]> {
  const missing: Extraction[] = []
  const groups: Extraction[][] = []
  for (const chunk of wanted) {
    const last = groups.at(-1)
    if (!(await file.has(chunk.write.at / CHUNK_SIZE, chunk))) missing.push(chunk)
    else if (last === undefined || last.length === REUSED_AT_ONCE) groups.push([chunk])
    else last.push(chunk)
  }
  const looked = groups.map(async (group) => {
    work.signal.throwIfAborted()
    const isThere = await pool.reuse({ from: handle.fd, chunking, ...writesOf(group) })
    onBytes(bytesOf(group.filter((_, n) => isThere[n])))
    return group.filter((_, n) => isThere[n] !== true)
  })
  // The descriptors must stay open while a thread reads and writes.
  for (const result of await Promise.allSettled(looked)) {
    if (result.status === 'rejected') throw result.reason
    missing.push(...result.value)
  }
  return missing
}

function byPack(chunks: readonly Extraction[]): Map<string, Extraction[]> {
  const packs = new Map<string, Extraction[]>()
  for (const chunk of chunks) {
    const name = `${chunk.place.core}/${chunk.place.block}`
    const pack = packs.get(name)
    if (pack === undefined) packs.set(name, [chunk])
    else pack.push(chunk)
  }
  return packs
}

function writesOf(chunks: readonly Extraction[]): { writes: ChunkWrite[]; ids: Buffer } {
  return {
    writes: chunks.map(({ write }) => write),
    ids: Buffer.concat(chunks.map(({ id }) => id))
  }
}

function bytesOf(chunks: readonly Extraction[]): number {
  return chunks.reduce((sum, { write }) => sum + write.length, 0)
}

export function itemsOf({ entry, places }: LeafEntry): Item[] {
  return entryIds(entry).flatMap((id, n) => {
    const place = places[n]
    return place === undefined ? [] : [{ id, place }]
  })
}

/** 4 KiB pages of a chunk that are holes. */
export function holesOf({ entry }: LeafEntry): number {
  return entry.kind === 'chunk' || entry.kind === 'zero' ? entry.holes : 0
}

/**
 * Nanoseconds as seconds since 1970, the way utimes takes them: a double, cut to microseconds.
 * From the middle of a microsecond no rounding falls into the one before. As text: of numbers below
 * zero, times before 1970, Node makes the present.
 */
export function seconds(mtime: bigint): string {
  const microseconds = mtime / 1_000n - (mtime % 1_000n < 0n ? 1n : 0n)
  return String((Number(microseconds) + 0.5) / 1e6)
}
