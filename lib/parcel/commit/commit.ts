import { lstat, readdir, stat } from 'node:fs/promises'
import type { Scan } from '../../choices.js'
import type { WorkerPool } from '../../chunk/worker-pool.js'
import { ParcelError } from '../../errors.js'
import { Writer } from '../../format/codec.js'
import type { Place } from '../../format/entry.js'
import { comparePaths, encodeFileEntry, printable } from '../../format/file-table.js'
import { CHUNK_SIZE } from '../../format/limits.js'
import { writeOptionalPlace, type StreamRef } from '../../format/meta-record.js'
import type { OpenContent } from '../../image/open-tree.js'
import { StreamWriter } from '../../image/stream-writer.js'
import type { PackWriter } from '../../log/pack-writer.js'
import { OrderedWindow } from '../../ordered-window.js'
import type { Work } from '../../progress.js'
import { sideBySide } from '../../side-by-side.js'
import type { BaseFiles } from './base-files.js'
import { FileStamps, sinceNow } from './file-stamps.js'
import { MappedWrites } from './mapped-writes.js'
import { movedSince } from './moved.js'
import type { Roles } from './roles.js'
import type { DirtyMap } from './scan.js'
import { SmallFiles } from './small-files.js'
import { storeFound } from './store-file.js'
import { storeImage, type Images } from './store-image.js'
import type { Stored } from './stored.js'
import { StoringProgress } from './storing-progress.js'
import { VANISHED, walk, type Found, type Skip, type Skipped } from './walk.js'

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
  roles: Roles
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
/** Enough for two threads to have a batch of small files each, and two more to be gathered. */
const SMALL_AT_ONCE = 256

/**
 * Stores a folder (null: there is only what is in images): contents first, then the file table. Everything it
 * wrote is in the log when it settles, but nothing refers to it yet: the version record is the commit point.
 * What is removed meanwhile is not in it. What gets another name is looked for again, and named when it does
 * not stand still; so is what was removed when it was to be read, and is there again. Throws CONFLICT when the
 * folder itself does not stand still.
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
    const vanished: Buffer[] = []
    const committed = await commitOnce(root, { ...options, base, mapped, vanished, onFound })
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
    const replaced = root === null ? [] : await thereAgain(root, vanished)
    const leftOut = [
      ...missed.map((path) => ({ path, how: 'moved' })),
      ...replaced.map((path) => ({ path, how: 'replaced' }))
    ]
    for (const { path, how } of leftOut) {
      const what = { path: printable(path), why: `it was ${how} while the folder was read` }
      committed.skipped.push(what)
      work.note(`left out: ${what.path}: ${what.why}`)
    }
    await writer.end()
    return committed
  }
}

/** What of that which vanished was only replaced: who saves a file may remove the old one first. */
async function thereAgain(root: string, vanished: readonly Buffer[]): Promise<Buffer[]> {
  const there: Buffer[] = []
  for (const path of vanished) {
    const absolute = Buffer.concat([Buffer.from(`${root}/`), path])
    if ((await lstat(absolute).catch(() => null)) !== null) there.push(path)
  }
  return there
}

/** What a folder is, whatever its path; null: there is none. */
async function identityOf(root: string): Promise<string | null> {
  const stats = await stat(root, { bigint: true }).catch(() => null)
  return stats === null ? null : `${stats.dev} ${stats.ino}`
}

async function commitOnce(root: string | null, options: StoreOnceOptions): Promise<Committed> {
  const { writer, work, base, vanished, onFound } = options
  const skipped: Skipped[] = []
  const skip: Skip = (path, why) => {
    if (why === VANISHED) {
      vanished.push(path)
      return
    }
    const what = { path: printable(path), why }
    skipped.push(what)
    work.note(`left out: ${what.path}: ${what.why}`)
  }
  if (root !== null) await requireReadable(root)
  const progress = new StoringProgress(work, root, options.pool)
  const table = new StreamWriter(writer)
  const places: (Place | null | Promise<Place | null>)[] = []
  const stamps = new FileStamps()
  let files = 0
  let bytes = 0
  const onBytes = (count: number): void => progress.add(count)
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
  const how = { ...options, small: new SmallFiles(writer, options.pool), onBytes, skip }
  const found = root === null ? nothing() : walk(root, skip, options.pool)
  const images = options.images?.contents() ?? nothing()
  const byPath = (one: Found, { entry }: OpenContent): number => comparePaths(one.path, entry.path)
  const filling = window.run(async () => {
    for await (const [next, image] of sideBySide(found, images, byPath)) {
      work.signal.throwIfAborted()
      // Of what is in both, it is the folder's that somebody put there.
      if (next === null) {
        await window.push(storeImage(image, how), true)
        continue
      }
      onFound(next)
      if (options.exclude(next.name)) continue
      const before = (await base?.at(next.path)) ?? null
      // A large file reads ahead by itself; small ones wait for the disk side by side.
      await window.push(storeFound(next, before, how), next.stats.size > BigInt(CHUNK_SIZE))
    }
  })
  await filling.then(() => progress.finish()).finally(() => progress.end())
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

interface StoreOnceOptions extends Omit<CommitOptions, 'base'> {
  base: BaseFiles | null
  mapped: MappedWrites
  /** Gets what was not there any more when it was to be read. */
  vanished: Buffer[]
  /** Told of all that the walk comes to. */
  onFound: (found: Found) => void
}

async function* nothing(): AsyncGenerator<never> {}

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

async function requireReadable(root: string): Promise<void> {
  await readdir(root).catch((error: unknown) => {
    throw ParcelError.from(error, `cannot read ${root}`)
  })
}
