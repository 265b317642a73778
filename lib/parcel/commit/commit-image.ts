import type { Place } from '../../format/entry.js'
import type { FileEntry } from '../../format/file-table.js'
import { CHUNK_SIZE, chunkCount, chunkLength, CHUNKING } from '../../format/limits.js'
import { CHUNK_PAGES } from '../../image/chunk-pages.js'
import { BaseTree } from '../../image/base-tree.js'
import type { ItemSource } from '../../image/items.js'
import type { Overlay } from '../../image/overlay.js'
import { TreeLookup } from '../../image/tree-lookup.js'
import { TreeUpdate } from '../../image/tree-update.js'
import { TreeWriter, type Tree } from '../../image/tree-writer.js'
import type { PackWriter, Stream } from '../../log/pack-writer.js'
import type { WorkerPool } from '../../chunk/worker-pool.js'
import { OrderedWindow } from '../../ordered-window.js'
import {
  ImageChunks,
  isOverwritten,
  MOST_OVERWRITTEN,
  type StoredChunk,
  type WorkingChunk
} from './image-chunks.js'

/** Chunks that are put together side by side. */
const AT_ONCE = 16

export interface CommitImageOptions {
  writer: PackWriter
  pool: WorkerPool
  stream: Stream
  /** Gives only what is on this host; throws UNREACHABLE for the rest. */
  here: ItemSource
  /** Waits for what is not: pages of trees, which a new tree cannot do without. */
  anywhere: ItemSource
  /** What a resume will want first: it is packed together. */
  working: readonly WorkingChunk[]
  /** Whether an item is in such a pack already. */
  isPacked: (place: Place) => boolean
  signal: AbortSignal
  onBytes: (bytes: number) => void
}

/**
 * Stores a file of a version with what was written to it since. Only chunks with such pages are
 * looked at, and of those nothing is fetched: a chunk of which only a part was written, and the
 * rest is elsewhere, becomes a patch of what the other host has.
 */
export async function commitImage(
  { entry, place }: { entry: FileEntry & { type: 'file' }; place: Place | null },
  overlay: Overlay,
  options: CommitImageOptions
): Promise<Tree> {
  const { writer, anywhere, working, signal, onBytes } = options
  const { size: before, root, chunking } = entry
  const isSameNaming = chunking === CHUNKING
  const tree = new TreeWriter(writer)
  const total = chunkCount(overlay.size)
  // Chunks that are named in another way cannot stand beside those that come now.
  const base = isSameNaming ? new BaseTree(anywhere, { size: before, root, place }) : null
  const update = new TreeUpdate(tree, base, total)
  const lookup = new TreeLookup(anywhere, { size: before, root, place, chunking })
  const chunks = new ImageChunks(overlay, lookup, options)
  const packed = new Map<number, StoredChunk>()
  if (isSameNaming) {
    for (const one of working) {
      signal.throwIfAborted()
      const stored = one.chunk < total ? await chunks.pack(one) : null
      if (stored !== null) packed.set(one.chunk, stored)
      await writer.ready()
    }
    chunks.packLater()
  }
  let next = 0
  const window = new OrderedWindow<{ chunk: number; stored: StoredChunk[] }>(
    AT_ONCE,
    async ({ chunk, stored }) => {
      if (chunk > next) update.same(chunk - next)
      for (const [n, { entry, places }] of stored.entries()) {
        if (entry.kind === 'hole') await update.pushHoles(1)
        else await update.push(entry, places)
        onBytes(chunkLength(overlay.size, chunk + n))
      }
      next = chunk + stored.length
      await writer.ready()
    }
  )
  const changed = changedChunks(overlay, before, isSameNaming)
  const all = withAll(
    changed,
    [...packed.keys()].toSorted((a, b) => a - b)
  )
  const store = async ({ chunk, count }: Run): Promise<StoredChunk[]> => {
    const known = packed.get(chunk)
    if (known !== undefined) return [known]
    return count > 1 ? chunks.storeOverwritten(chunk, count) : [await chunks.store(chunk)]
  }
  const isFresh = (chunk: number): boolean => !packed.has(chunk) && isOverwritten(overlay, chunk)
  await window.run(async () => {
    for (const run of runsOf(all, isFresh)) {
      signal.throwIfAborted()
      await window.push(store(run).then((stored) => ({ chunk: run.chunk, stored })))
    }
  })
  if (total > next) update.same(total - next)
  await update.end()
  return tree.end()
}

/** Chunks of which something was written. Ascending, each once. */
export function* changedChunks(
  overlay: Overlay,
  before: number,
  isSameNaming: boolean
): Generator<number> {
  const total = chunkCount(overlay.size)
  const isCut = overlay.size !== before
  // From the chunk that was or becomes the last on, all have another length or no base.
  const fresh = isCut
    ? Math.floor(Math.max(0, Math.min(before, overlay.size) - 1) / CHUNK_SIZE)
    : total
  const from = isSameNaming ? fresh : 0
  let next = 0
  for (const map of merged(overlay)) {
    const end = Math.min(Math.ceil(map.end / CHUNK_PAGES), from)
    const start = Math.floor(map.start / CHUNK_PAGES)
    for (let chunk = Math.max(next, start); chunk < end; chunk++) yield chunk
    next = Math.max(next, end)
  }
  for (let chunk = Math.max(next, from); chunk < total; chunk++) yield chunk
}

/** Chunks that are stored together. */
export interface Run {
  chunk: number
  count: number
}

/** Ascending chunks as runs; only those for which `isWhole` are in one with others. */
export function* runsOf(
  chunks: Iterable<number>,
  isWhole: (chunk: number) => boolean
): Generator<Run> {
  let run: Run | null = null
  for (const chunk of chunks) {
    const isMore = isWhole(chunk)
    if (run !== null && isMore && chunk === run.chunk + run.count && run.count < MOST_OVERWRITTEN) {
      run.count++
      continue
    }
    if (run !== null) yield run
    run = isMore ? { chunk, count: 1 } : null
    if (!isMore) yield { chunk, count: 1 }
  }
  if (run !== null) yield run
}

/** Two ascending sequences as one, each number once. */
function* withAll(numbers: Iterable<number>, others: readonly number[]): Generator<number> {
  let n = 0
  for (const number of numbers) {
    for (let other = others[n]; other !== undefined && other <= number; other = others[++n]) {
      if (other < number) yield other
    }
    yield number
  }
  yield* others.slice(n)
}

/** Runs of pages of both maps, by where they begin. */
function* merged({ written, zeroed }: Overlay): Generator<{ start: number; end: number }> {
  const [a, b] = [written.runs(), zeroed.runs()]
  let [x, y] = [a.next(), b.next()]
  while (x.done !== true || y.done !== true) {
    if (y.done === true || (x.done !== true && x.value.start < y.value.start)) {
      if (x.done !== true) yield x.value
      x = a.next()
    } else {
      yield y.value
      y = b.next()
    }
  }
}
