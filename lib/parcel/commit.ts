import { readlink } from 'node:fs/promises'
import { ParcelError } from '../errors.js'
import { Writer } from '../format/codec.js'
import type { Place } from '../format/entry.js'
import { encodeFileEntry, printable, type FileEntry, type FileRole } from '../format/file-table.js'
import { CHUNK_SIZE } from '../format/limits.js'
import { writeOptionalPlace, type StreamRef } from '../format/meta-record.js'
import type { WorkerPool } from '../chunk/worker-pool.js'
import { StreamWriter } from '../image/stream-writer.js'
import type { PackWriter, Stream } from '../log/pack-writer.js'
import { OrderedWindow } from '../ordered-window.js'
import type { Work } from '../progress.js'
import { ChangingFile, commitFile } from './commit-file.js'
import { isAccessError, reason, walk, type Found, type Skipped } from './walk.js'

/** What storing a folder gave: everything a version record and its places need. */
export interface Committed {
  table: StreamRef
  roots: StreamRef
  files: number
  bytes: number
  /** What is not in the version although it is in the folder. */
  skipped: Skipped[]
}

export interface CommitOptions {
  writer: PackWriter
  pool: WorkerPool
  /** Role of a file by its path; plain files are not in it. */
  roles: Readonly<Record<string, FileRole>>
  /** Files that are nobody's business, such as a monitor's left-overs. */
  exclude: (path: string) => boolean
  work: Work
}

const ATTEMPTS = 3
const SMALL_AT_ONCE = 16

/**
 * Stores a folder: contents first, then the file table. Everything it wrote is in the log when it
 * settles, but nothing refers to it yet: the version record is the commit point.
 */
export async function commitFolder(root: string, options: CommitOptions): Promise<Committed> {
  const { writer, work } = options
  const skipped: Skipped[] = []
  const skip = (what: Skipped): void => {
    skipped.push(what)
    work.note(`left out: ${what.path}: ${what.why}`)
  }
  const total = await measure(root)
  const table = new StreamWriter(writer)
  const places: Promise<Place | null>[] = []
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
    if (stored.place !== null) places.push(stored.place)
    await writer.ready()
  }
  const window = new OrderedWindow<Stored>(SMALL_AT_ONCE, list)
  for await (const found of walk(root, skip)) {
    work.signal.throwIfAborted()
    if (options.exclude(found.path.toString('utf8'))) continue
    const stored = storeOne(found, { ...options, onBytes, skip })
    // A large file reads ahead by itself; small ones wait for the disk side by side.
    await window.push(stored, found.stats.size > BigInt(CHUNK_SIZE))
  }
  await window.end()
  const tree = table.end()
  const rootPlaces = await writer.settle(Promise.all(places))
  const roots = await storeRoots(writer, rootPlaces)
  const tablePlace = await writer.settle(tree.place)
  work.signal.throwIfAborted()
  await writer.end()
  return {
    table: { size: table.size, root: tree.root, place: tablePlace },
    roots,
    files,
    bytes,
    skipped
  }
}

type Stored = { entry: FileEntry; place: Promise<Place | null> | null } | null

interface StoreOptions extends CommitOptions {
  onBytes: (bytes: number) => void
  skip: (skipped: Skipped) => void
}

async function storeOne(found: Found, options: StoreOptions): Promise<Stored> {
  const { path, absolute, stats } = found
  const common = { path, mode: Number(stats.mode & 0o7777n), mtime: stats.mtimeNs, extensions: [] }
  try {
    if (stats.isDirectory()) return { entry: { ...common, type: 'folder' }, place: null }
    if (stats.isSymbolicLink()) {
      const target = await readlink(absolute, { encoding: 'buffer' })
      return { entry: { ...common, type: 'symlink', target }, place: null }
    }
    return await storeFile(found, options)
  } catch (error) {
    const isAboutThisFile = error instanceof ChangingFile || isAccessError(error)
    if (!isAboutThisFile) throw error
    const role = options.roles[path.toString('utf8')]
    if (role !== undefined && role !== 'log') {
      // A machine without its disk or memory is no machine.
      throw new ParcelError('FAILED', `cannot store ${printable(path)}: ${reason(error)}`, error)
    }
    options.skip({ path: printable(path), why: reason(error) })
    return null
  }
}

async function storeFile(
  { path, absolute }: Found,
  { writer, pool, roles, work, onBytes }: StoreOptions
): Promise<{ entry: FileEntry; place: Promise<Place | null> }> {
  const role = roles[path.toString('utf8')] ?? 'file'
  const stream: Stream = role === 'memory' || role === 'device' ? 'memory' : 'disk'
  for (let attempt = 1; ; attempt++) {
    try {
      const options = { writer, pool, stream, signal: work.signal, onBytes }
      const { tree, stats } = await commitFile(absolute, options)
      const entry: FileEntry = {
        type: 'file',
        path,
        mode: Number(stats.mode & 0o7777n),
        mtime: stats.mtimeNs,
        extensions: [],
        role,
        chunking: 1,
        size: Number(stats.size),
        root: tree.root
      }
      return { entry, place: tree.place }
    } catch (error) {
      if (!(error instanceof ChangingFile) || attempt === ATTEMPTS) throw error
      work.note(`read again: ${printable(path)}: ${error.message}`)
    }
  }
}

async function storeRoots(writer: PackWriter, places: (Place | null)[]): Promise<StreamRef> {
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
      if (!stats.isFile()) continue
      const allocated = stats.blocks * 512n
      total += Number(allocated < stats.size ? allocated : stats.size)
    }
  } catch (error) {
    throw ParcelError.from(error, `cannot read ${root}`)
  }
  return total
}
