import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import type { BigIntStats } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import { extents, isSparse, type Extent } from '../../chunk/extents.js'
import { chunkId, isZero } from '../../chunk/id.js'
import { isSameFile } from '../../chunk/read-files-job.js'
import type { Segment, WorkerPool } from '../../chunk/worker-pool.js'
import { sameOutside, spans, touched, wholeFile, type Span } from '../../chunk/spans.js'
import type { Place } from '../../format/entry.js'
import { CHUNK_SIZE, chunkCount } from '../../format/limits.js'
import type { BaseTree } from '../../image/base-tree.js'
import { names, TreeUpdate } from '../../image/tree-update.js'
import { TreeWriter, type Tree } from '../../image/tree-writer.js'
import type { Stream } from '../../log/pack-writer.js'
import { hasCode } from '../../paths.js'
import type { ItemWriter } from './gathering.js'
import { isYoung, stampOf, systemTime, untilShown, type FileStamp } from './file-stamps.js'

const WORTH_A_SYNC = 1_048_576n
/** So often a file is found written to anew, a tick after the last time, before it is said to be so all the time. */
const MOST_WRITES = 6
/** Segments read ahead of the one that is being stored. */
const READ_AHEAD = 4

/** Why something is not what it was when it was found. */
export const REPLACED = 'it was replaced by something else'

/** A file that would not stand still while it was read. */
export class ChangingFile extends Error {}

/** What a file was in the version before; `written`: all that was written to it since, if that is known. */
export interface Before {
  tree: BaseTree
  written: readonly Extent[] | null
}

export interface CommitFileOptions {
  writer: ItemWriter
  pool: WorkerPool
  stream: Stream
  before: Before | null
  /** Whether nobody writes to it any more, as to a machine's state when its monitor has ended. */
  isStill: boolean
  signal: AbortSignal
  onBytes: (bytes: number) => void
}

/**
 * Stores one file and returns its trees and the state in which it was read. Holes are never read.
 * Throws ChangingFile when the file was written to meanwhile, so no version has a torn file.
 */
export async function commitFile(
  absolute: Buffer,
  options: CommitFileOptions
): Promise<{ tree: Tree; stats: BigIntStats; stamp: FileStamp | null }> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
  const handle = await open(absolute, flags).catch((error: unknown) => {
    // So open a socket, and a device that nothing drives.
    if (hasCode(error, 'ENXIO', 'ENODEV')) throw new ChangingFile(REPLACED)
    throw error
  })
  try {
    const { stats: before, isSynced } = await settle(handle, options)
    if (!before.isFile()) throw new ChangingFile(REPLACED)
    const tree = new TreeWriter(options.writer)
    const isSmall = before.size <= BigInt(CHUNK_SIZE) && !isSparse(before)
    if (isSmall && options.before === null)
      await storeSmall(handle, Number(before.size), tree, options)
    else await storeContents(handle, before, tree, options)
    const after = await handle.stat({ bigint: true })
    if (!isSameFile(before, after)) throw new ChangingFile('it changed while it was read')
    return {
      tree: tree.end(),
      stats: after,
      stamp: await stamped(handle, after, isSynced, options)
    }
  } finally {
    await handle.close()
  }
}

/**
 * Waits until a write from now on changes the file's times, and returns what they are. Has the system write
 * back what a program may have put into a mapped file: its next write then changes them too. Many small files
 * would take too long; they are read once more. Throws ChangingFile for one that is written to all the time.
 */
async function settle(
  handle: FileHandle,
  { isStill, signal }: CommitFileOptions
): Promise<{ stats: BigIntStats; isSynced: boolean }> {
  let isSynced = false
  let changed = 0n
  for (let writes = 0; writes < MOST_WRITES;) {
    const stats = await handle.stat({ bigint: true })
    if (stats.ctimeNs !== changed) writes++
    changed = stats.ctimeNs
    const now = systemTime()
    const wait = isStill ? 0 : untilShown(stats.ctimeNs, now)
    if (wait > 0) {
      isSynced = false
      await setTimeout(wait)
      signal.throwIfAborted()
    } else if (!isSynced && stats.size >= WORTH_A_SYNC && isYoung(stats, now)) {
      isSynced = await handle.datasync().then(
        () => true,
        () => false
      )
      if (!isSynced) return { stats, isSynced }
    } else {
      return { stats, isSynced }
    }
  }
  throw new ChangingFile('it is written to without a pause')
}

/** A large file is waited for, for a few milliseconds, rather than read again the next time. */
async function stamped(
  handle: FileHandle,
  stats: BigIntStats,
  isSynced: boolean,
  { signal }: CommitFileOptions
): Promise<FileStamp | null> {
  const stamp = stampOf(stats, systemTime(), isSynced)
  const wait = untilShown(stats.ctimeNs, systemTime())
  if (stamp !== null || wait === 0 || stats.size < WORTH_A_SYNC) return stamp
  await setTimeout(wait)
  signal.throwIfAborted()
  const { ctimeNs } = await handle.stat({ bigint: true })
  return ctimeNs === stats.ctimeNs ? stampOf(stats, systemTime(), isSynced) : null
}

/** A file of one chunk: not worth a trip to a worker and a buffer of a whole segment. */
async function storeSmall(
  handle: FileHandle,
  size: number,
  tree: TreeWriter,
  { writer, stream, onBytes }: CommitFileOptions
): Promise<void> {
  if (size === 0) return
  const bytes = Buffer.allocUnsafe(size)
  const { bytesRead } = await handle.read(bytes, 0, size, 0)
  if (bytesRead !== size) throw new ChangingFile('it became shorter while it was read')
  if (isZero(bytes)) {
    tree.push({ kind: 'zero', holes: 0 }, [])
  } else {
    const id = chunkId(bytes)
    const [known] = await writer.find([id])
    tree.push({ kind: 'chunk', id, holes: 0 }, [known ?? writer.put(stream, id, bytes)])
  }
  onBytes(size)
}

type Read = { span: Span & { kind: 'data' }; segment: Promise<Segment> }
type Unread = { span: Span & { count: number } }

async function storeContents(
  handle: FileHandle,
  stats: BigIntStats,
  tree: TreeWriter,
  options: CommitFileOptions
): Promise<void> {
  const size = Number(stats.size)
  const plan = planOf(handle.fd, stats, options.before)
  const update = new TreeUpdate(tree, options.before?.tree ?? null, chunkCount(size))
  const ahead: (Read | Unread)[] = []
  try {
    for await (const span of plan) {
      options.signal.throwIfAborted()
      if (span.kind !== 'data') {
        ahead.push({ span })
      } else {
        const offset = span.chunk * CHUNK_SIZE
        const length = Math.min(span.masks.length * CHUNK_SIZE, size - offset)
        const segment = options.pool.read(handle.fd, offset, length)
        segment.catch(() => {})
        ahead.push({ span, segment })
      }
      if (ahead.length > READ_AHEAD) await storeNext(ahead, update, size, options)
    }
    while (ahead.length > 0) await storeNext(ahead, update, size, options)
    await update.end()
  } finally {
    // The descriptor must stay open while a worker reads it.
    await Promise.allSettled(ahead.map((next) => ('segment' in next ? next.segment : null)))
  }
}

/** What to read of a file, and what to take as it was. */
function planOf(
  fd: number,
  stats: BigIntStats,
  before: Before | null
): AsyncIterable<Span> | Iterable<Span> {
  const size = Number(stats.size)
  const written = before?.written ?? null
  if (before === null || written === null) {
    return isSparse(stats) ? spans(extents(fd), size) : wholeFile(size)
  }
  const runs = touched(written, before.tree.size, size)
  return sameOutside(spans(isSparse(stats) ? extents(fd, runs) : runs, size), runs)
}

async function storeNext(
  ahead: (Read | Unread)[],
  update: TreeUpdate,
  size: number,
  options: CommitFileOptions
): Promise<void> {
  const next = ahead.shift()
  if (next === undefined) return
  if (!('segment' in next)) {
    const { kind, count } = next.span
    if (kind === 'holes') await update.pushHoles(count)
    else update.same(count)
    return
  }
  const segment = await next.segment
  const { chunk, masks } = next.span
  const expected = Math.min(masks.length * CHUNK_SIZE, size - chunk * CHUNK_SIZE)
  if (segment.bytes.byteLength !== expected) {
    segment.release()
    throw new ChangingFile('it became shorter while it was read')
  }
  await storeSegment(segment, masks, update, options)
  options.onBytes(expected)
  await options.writer.ready()
}

async function storeSegment(
  segment: Segment,
  masks: readonly number[],
  update: TreeUpdate,
  { writer, stream }: CommitFileOptions
): Promise<void> {
  const was = await update.was(masks.length)
  const ids = masks.map((_, n) => segment.id(n))
  const isSame = masks.map((holes, n) => names(was[n] ?? null, ids[n] ?? null, holes))
  const known = await writer.find(ids.map((id, n) => (isSame[n] === true ? null : id)))
  const fresh = ids.flatMap((id, n) => (id !== null && (known[n] ?? null) === null ? [id] : []))
  const isNew = fresh.length === ids.length && !isSame.includes(true)
  const whole = isNew ? writer.putSegment(stream, fresh, segment) : null
  for (const [n, holes] of masks.entries()) {
    const id = ids[n] ?? null
    if (isSame[n] === true) {
      update.same(1)
    } else if (id === null) {
      await update.push({ kind: 'zero', holes }, [])
    } else {
      // Once it is a pack, the segment's buffer is not ours any more.
      const put = (): Place | Promise<Place> =>
        writer.put(stream, id, segment.bytes.subarray(n * CHUNK_SIZE, (n + 1) * CHUNK_SIZE))
      const place = whole?.[n] ?? known[n] ?? put()
      await update.push({ kind: 'chunk', id, holes }, [place])
    }
  }
  if (whole === null) segment.release()
}
