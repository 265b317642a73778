import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import type { ChunkWrite } from '../../chunk/unpack-job.js'
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

/** An item of a file, and where it is. */
export interface Item {
  id: Buffer
  place: Place
}

/** Chunks of one pack and where they go. */
interface Extraction {
  place: Place
  writes: ChunkWrite[]
  ids: Buffer[]
}

/** Writes a file of a version, with its holes, mode and time. Nothing unverified is written. Returns its stamp. */
export async function writeFile(
  path: Buffer,
  entry: FileEntry & { type: 'file' },
  place: Place | null,
  options: WriteFileOptions
): Promise<FileStamp> {
  const handle = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600)
  try {
    await handle.truncate(entry.size)
    const { size, chunking, root } = entry
    const tree = { size, chunking, root, place }
    // A small file shares its pack with others, which the reader keeps open for them.
    if (entry.size <= CHUNK_SIZE) {
      for await (const leaf of leaves(options.source, tree)) {
        await writeWindow([leaf], handle, tree, options)
      }
    } else {
      await writeLarge(handle, tree, options)
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

async function writeLarge(
  handle: FileHandle,
  tree: FileTree,
  options: WriteFileOptions
): Promise<void> {
  let window: Leaf[] = []
  let unsynced = 0
  let syncing: Promise<void> = Promise.resolve()
  const flush = async (): Promise<void> => {
    unsynced += await writeWindow(window, handle, tree, options)
    window = []
    if (unsynced < SYNC_BYTES) return
    unsynced = 0
    // All of it is synced at the end; begun now, the disk works while we do.
    await syncing
    syncing = handle.datasync()
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
  handle: FileHandle,
  { size, chunking }: FileTree,
  options: WriteFileOptions
): Promise<number> {
  const { source, pool, work, onItems, onBytes } = options
  const packs = new Map<string, Extraction>()
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
        const pack = packAt(packs, place)
        pack.writes.push({ ordinal: place.ordinal, fd: handle.fd, at, length, holes })
        pack.ids.push(id)
      } else {
        work.signal.throwIfAborted()
        const chunk = await readChunk(source, one, { length, chunking })
        if (chunk !== null) writeAround(handle.fd, chunk, index * CHUNK_SIZE, holesOf(one))
        onBytes(length)
      }
    }
  }
  const waiting = [...packs.values()]
  const extractNext = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      work.signal.throwIfAborted()
      const { place, writes } = next
      await source.extract(place, { writes, chunking, ids: Buffer.concat(next.ids) }, pool)
      onBytes(writes.reduce((sum, { length }) => sum + length, 0))
    }
  }
  // The descriptor must stay open while a thread writes to it.
  const done = await Promise.allSettled(Array.from({ length: AT_ONCE }, extractNext))
  for (const result of done) if (result.status === 'rejected') throw result.reason
  // Only what has proved to be what it should is remembered.
  await onItems(items)
  return bytes
}

function packAt(packs: Map<string, Extraction>, place: Place): Extraction {
  const name = `${place.core}/${place.block}`
  const known = packs.get(name)
  if (known !== undefined) return known
  const pack = { place, writes: [], ids: [] }
  packs.set(name, pack)
  return pack
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
