import type { BigIntStats } from 'node:fs'
import { readlink, stat } from 'node:fs/promises'
import type { Scan } from '../../choices.js'
import { ParcelError } from '../../errors.js'
import { Writer } from '../../format/codec.js'
import type { Place } from '../../format/entry.js'
import {
  comparePaths,
  encodeFileEntry,
  printable,
  type FileEntry,
  type FileRole
} from '../../format/file-table.js'
import { CHUNK_SIZE, CHUNKING } from '../../format/limits.js'
import { writeOptionalPlace, type StreamRef } from '../../format/meta-record.js'
import type { WorkerPool } from '../../chunk/worker-pool.js'
import { BaseTree } from '../../image/base-tree.js'
import type { ItemSource } from '../../image/items.js'
import { changedAt, type OpenContent } from '../../image/open-tree.js'
import { Overlay } from '../../image/overlay.js'
import { StreamWriter } from '../../image/stream-writer.js'
import type { PackWriter, Stream } from '../../log/pack-writer.js'
import { OrderedWindow } from '../../ordered-window.js'
import type { Work } from '../../progress.js'
import { isUnchanged, type BaseFile, type BaseFiles } from './base-files.js'
import { ChangingFile, commitFile, type Before } from './commit-file.js'
import { commitImage } from './commit-image.js'
import { Gathering } from './gathering.js'
import type { WorkingChunk } from './image-chunks.js'
import { FileStamps, sinceNow, type FileStamp } from './file-stamps.js'
import { MappedWrites } from './mapped-writes.js'
import { movedSince } from './moved.js'
import type { Used } from './trace.js'
import type { DirtyMap } from './scan.js'
import { isAccessError, reason, walk, type Found, type Skipped } from './walk.js'

/** What storing a folder gave: everything a version record and its places need. */
export interface Committed {
  table: StreamRef
  roots: StreamRef
  files: number
  bytes: number
  /** What is not in the version although it is in the folder. */
  skipped: Skipped[]
  stamps: FileStamps
}

export interface CommitOptions {
  writer: PackWriter
  pool: WorkerPool
  /** Role of a file by its path; plain files are not in it. */
  roles: Readonly<Record<string, FileRole>>
  /** Files that are nobody's business, such as a monitor's left-overs. */
  exclude: (path: string) => boolean
  /** Gives the version that the folder continues, from its beginning; null for the first. */
  base: () => Promise<BaseFiles | null>
  scan: Scan
  /** Files of which it is known what was written to them. */
  dirty: DirtyMap
  /** Files that are not in the folder: what the base has, with what was written to it. */
  images: Images | null
  work: Work
}

const ATTEMPTS = 3
const SMALL_AT_ONCE = 64
/** What a machine needs before it starts, where it is not large: bytes. */
const FIRST: ReadonlySet<FileRole> = new Set(['config', 'nvram', 'device'])
const SMALL = 1_048_576
/** What nobody but a monitor writes to, which has ended or stands still. */
const STILL: ReadonlySet<FileRole> = new Set(['memory', 'device', 'disk', 'nvram'])

/**
 * Stores a folder (null: there is only what is in images): contents first, then the file table. Everything it wrote is in the log when it
 * settles, but nothing refers to it yet: the version record is the commit point. What gets another name meanwhile
 * is looked for again, and named when it does not stand still. Throws CONFLICT when the folder itself does not.
 */
export async function commitFolder(
  root: string | null,
  options: CommitOptions
): Promise<Committed> {
  const { writer, work, exclude } = options
  const identity = root === null ? null : await identityOf(root)
  const suspects = new Set<string>()
  const mapped = new MappedWrites()
  for (let attempt = 1; ; attempt++) {
    const since = sinceNow()
    const seen = new Set<string>()
    const onFound = ({ path, stats }: Found): void => {
      if (suspects.size === 0 && stats.ctimeNs < since) return
      const name = path.toString('latin1')
      if (stats.ctimeNs >= since || suspects.has(name)) seen.add(name)
    }
    const base = await options.base()
    const committed = await commitOnce(root, { ...options, base, mapped, onFound })
    if (root !== null && (await identityOf(root)) !== identity) {
      throw new ParcelError(
        'CONFLICT',
        `${root} was moved or replaced while it was read: no version was made, do it again`
      )
    }
    const moved = root === null ? [] : await movedSince(root, since)
    const missed: Buffer[] = []
    for (const name of moved) {
      suspects.add(name)
      const path = Buffer.from(name, 'latin1')
      if (!seen.has(name) && !exclude(path.toString())) missed.push(path)
    }
    const [first] = missed
    if (first !== undefined && attempt < ATTEMPTS) {
      work.note(`read again: ${printable(first)}: it was moved or changed meanwhile`)
      continue
    }
    for (const path of missed) {
      const what = { path: printable(path), why: 'it was moved while the folder was read' }
      committed.skipped.push(what)
      work.note(`left out: ${what.path}: ${what.why}`)
    }
    await writer.end()
    return committed
  }
}

/** What a folder is, whatever its path; null: there is none. */
async function identityOf(root: string): Promise<string | null> {
  const stats = await stat(root, { bigint: true }).catch(() => null)
  return stats === null ? null : `${stats.dev} ${stats.ino}`
}

async function commitOnce(root: string | null, options: StoreOnceOptions): Promise<Committed> {
  const { writer, work, base, onFound } = options
  const skipped: Skipped[] = []
  const skip = (what: Skipped): void => {
    skipped.push(what)
    work.note(`left out: ${what.path}: ${what.why}`)
  }
  const total = root === null ? 0 : await measure(root)
  const table = new StreamWriter(writer)
  const places: (Place | null | Promise<Place | null>)[] = []
  const stamps = new FileStamps()
  let files = 0
  let bytes = 0
  let done = 0
  const onBytes = (count: number): void => {
    done += count
    work.report({ step: 'storing', done, total: Math.max(total, done), unit: 'bytes' })
  }
  const list = async (stored: Stored): Promise<void> => {
    if (stored === null) return
    table.write(encodeFileEntry(stored.entry))
    if (stored.entry.type !== 'file') return
    files++
    bytes += stored.entry.size
    places.push(stored.place)
    stamps.push(stored.stamp)
    await writer.ready()
  }
  const window = new OrderedWindow<Stored>(SMALL_AT_ONCE, list)
  const found = root === null ? nothing() : walk(root, skip)
  for await (const next of together(found, options.images?.contents() ?? nothing())) {
    work.signal.throwIfAborted()
    if ('entry' in next) {
      await window.push(storeImage(next, { ...options, onBytes, skip }), true)
      continue
    }
    onFound(next)
    if (options.exclude(next.path.toString('utf8'))) continue
    const before = (await base?.at(next.path)) ?? null
    const stored = storeOne(next, before, { ...options, onBytes, skip })
    // A large file reads ahead by itself; small ones wait for the disk side by side.
    await window.push(stored, next.stats.size > BigInt(CHUNK_SIZE))
  }
  await window.end()
  const tree = table.end()
  const rootPlaces = await writer.settle(Promise.all(places))
  const roots = await storeRoots(writer, rootPlaces)
  const tablePlace = await writer.settle(tree.place)
  work.signal.throwIfAborted()
  return {
    table: { size: table.size, root: tree.root, place: tablePlace },
    roots,
    files,
    bytes,
    skipped,
    stamps
  }
}

type Stored = {
  entry: FileEntry
  place: Place | null | Promise<Place | null>
  stamp: FileStamp | null
} | null

interface StoreOnceOptions extends Omit<CommitOptions, 'base'> {
  base: BaseFiles | null
  mapped: MappedWrites
  /** Told of all that the walk comes to. */
  onFound: (found: Found) => void
}

interface StoreOptions extends StoreOnceOptions {
  onBytes: (bytes: number) => void
  skip: (skipped: Skipped) => void
}

/** What of a version is stored from images; the places of its files stay good in the new version. */
export interface Images {
  /** In the order of a file table. */
  contents: () => AsyncIterable<OpenContent>
  /** Gives only what is on this host. */
  here: ItemSource
  /** Waits for what is not. */
  anywhere: ItemSource
  /** What a resume will want first. */
  used: Used
  /** Whether that is to be packed together, if it is not. */
  isPacking: boolean
  /** Blocks that were packed for that before, as `blockName` has them. */
  packed: ReadonlySet<string>
  /** Whether an item is in one of them. */
  isPacked: (place: Place) => boolean
}

async function* nothing(): AsyncGenerator<never> {}

/** Both in the order of a file table; of what is in both, it is the folder's that somebody put there. */
async function* together(
  walked: AsyncIterable<Found>,
  contents: AsyncIterable<OpenContent>
): AsyncGenerator<Found | OpenContent> {
  const images = contents[Symbol.asyncIterator]()
  let image = await images.next()
  for await (const found of walked) {
    while (image.done !== true && comparePaths(image.value.entry.path, found.path) < 0) {
      yield image.value
      image = await images.next()
    }
    if (image.done !== true && image.value.entry.path.equals(found.path))
      image = await images.next()
    yield found
  }
  for (; image.done !== true; image = await images.next()) yield image.value
}

async function storeImage(content: OpenContent, options: StoreOptions): Promise<Stored> {
  const { entry, place } = content
  const { images, writer, pool, work, onBytes } = options
  if (entry.type !== 'file' || images === null) return { entry, place, stamp: null }
  const overlay = await Overlay.open(content.overlay, entry.size)
  try {
    const stream = streamOf(entry.role)
    const { used, isPacking } = images
    const file = used.files.indexOf(printable(entry.path))
    const working = isPacking ? workingChunks(used, file) : []
    if (!overlay.isDirty && (working.length === 0 || entry.chunking !== CHUNKING))
      return { entry, place, stamp: null }
    const how = { ...images, writer, pool, stream, working, signal: work.signal, onBytes }
    const tree = await commitImage({ entry, place }, overlay, how)
    const mtime = await changedAt(content, overlay)
    const { size } = overlay
    const stored = { ...entry, chunking: CHUNKING, size, root: tree.root, mtime }
    return { entry: stored, place: tree.place, stamp: null }
  } finally {
    await overlay.close()
  }
}

/** Of one file, in the order of their first use. */
function workingChunks({ touched }: Used, file: number): WorkingChunk[] {
  const chunks = new Map<number, WorkingChunk>()
  for (const [of, chunk, pages] of touched) {
    if (of !== file) continue
    const known = chunks.get(chunk)
    if (known === undefined) chunks.set(chunk, { chunk, first: pages, later: 0 })
    else known.later |= pages
  }
  return [...chunks.values()]
}

async function storeOne(
  found: Found,
  before: BaseFile | null,
  options: StoreOptions
): Promise<Stored> {
  const { path, absolute, stats } = found
  const common = { path, mode: Number(stats.mode & 0o7777n), mtime: stats.mtimeNs, extensions: [] }
  const nowhere = { place: null, stamp: null }
  try {
    if (stats.isDirectory()) return { entry: { ...common, type: 'folder' }, ...nowhere }
    if (stats.isSymbolicLink()) {
      const target = await readlink(absolute, { encoding: 'buffer' })
      return { entry: { ...common, type: 'symlink', target }, ...nowhere }
    }
    return await storeFile(found, before, options)
  } catch (error) {
    const isAboutThisFile = error instanceof ChangingFile || isAccessError(error)
    if (!isAboutThisFile) throw error
    const role = roleOf(path, options)
    if (role !== undefined && role !== 'log') {
      // A machine without its disk or memory is no machine.
      throw new ParcelError('FAILED', `cannot store ${printable(path)}: ${reason(error)}`, error)
    }
    options.skip({ path: printable(path), why: reason(error) })
    return null
  }
}

async function storeFile(
  { path, absolute, stats: found }: Found,
  before: BaseFile | null,
  { writer, pool, roles, base, scan, dirty, images, mapped, work, onBytes }: StoreOptions
): Promise<Stored> {
  const name = path.toString('utf8')
  const role = roleOf(path, { roles }) ?? 'file'
  const isState = streamOf(role) === 'memory'
  const isTracked = scan !== 'full' && Object.hasOwn(dirty, name)
  const ranges = isTracked ? dirty[name] : undefined
  // Guest memory is mapped by its monitor: it is written to without a trace in the times.
  const maySkip = scan === 'mtime' && !isTracked && !isState
  const isFirst = images !== null && FIRST.has(role) && found.size <= BigInt(SMALL)
  if (
    before !== null &&
    maySkip &&
    !isFirst &&
    isUnchanged(before, found) &&
    (await mapped.leaveTraces(found.dev, absolute))
  ) {
    onBytes(allocated(found))
    return { ...before, entry: { ...before.entry, mode: modeOf(found), role } }
  }
  const into = isFirst ? new Gathering(writer, images.isPacked) : writer
  let earlier = isFirst ? null : earlierOf(before, base, ranges)
  for (let attempt = 1; ; attempt++) {
    try {
      const stream = streamOf(role)
      const options = {
        writer: into,
        pool,
        stream,
        before: earlier,
        isStill: STILL.has(role),
        signal: work.signal,
        onBytes
      }
      const { tree, stats, stamp } = await commitFile(absolute, options)
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

/** A file may be called as what every object has: only what was said of it counts. */
function roleOf(path: Buffer, { roles }: Pick<StoreOptions, 'roles'>): FileRole | undefined {
  const name = path.toString('utf8')
  return Object.hasOwn(roles, name) ? roles[name] : undefined
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

/** Guest memory is wanted in small pieces. */
export function streamOf(role: FileRole): Stream {
  return role === 'memory' || role === 'device' ? 'memory' : 'disk'
}

function modeOf({ mode }: BigIntStats): number {
  return Number(mode & 0o7777n)
}

/** Whether the earlier version failed us, not the file or the store. */
function isUnreadable(error: unknown): boolean {
  return error instanceof ParcelError && ['INTEGRITY', 'UNREACHABLE'].includes(error.code)
}

/** Stores where the top place page of each file is. */
export async function storeRoots(writer: PackWriter, places: (Place | null)[]): Promise<StreamRef> {
  const stream = new StreamWriter(writer)
  for (const place of places) {
    const one = new Writer(16)
    writeOptionalPlace(one, place)
    stream.write(one.bytes())
  }
  const tree = stream.end()
  return { size: stream.size, root: tree.root, place: await writer.settle(tree.place) }
}

/** Bytes on disk below a folder, for the progress bar. */
async function measure(root: string): Promise<number> {
  let total = 0
  try {
    for await (const { stats } of walk(root, () => {})) {
      if (stats.isFile()) total += allocated(stats)
    }
  } catch (error) {
    throw ParcelError.from(error, `cannot read ${root}`)
  }
  return total
}

function allocated({ blocks, size }: BigIntStats): number {
  const bytes = blocks * 512n
  return Number(bytes < size ? bytes : size)
}
