import { ParcelError } from '../../errors.js'
import type { Place } from '../../format/entry.js'
import { MAX_PACK_ITEMS } from '../../format/limits.js'
import { decodePack, rawLength } from '../../format/pack.js'
import type { Places } from '../../format/meta-record.js'
import type { Version } from '../../format/version.js'
import { contents } from '../../image/contents.js'
import { treeItems } from '../../image/tree-items.js'
import type { FileTree } from '../../image/tree-reader.js'
import type { ItemSource } from '../../image/items.js'
import { CoreTable } from '../../log/core-table.js'
import type { Log } from '../../log/log.js'
import type { Work } from '../../progress.js'
import type { Known } from '../history.js'
import type { LogSet } from '../logs/log-set.js'
import { packsOf } from '../version-packs.js'

/** Logs of so many bytes are read whole to tell what their packs hold; of others so many blocks by chance. */
const [COUNTED, SAMPLE] = [64 * 1_048_576, 256]

/** Bytes of chunks. The first is as far as a sample tells. */
export interface Share {
  total: number
  live: number
}

/**
 * How much each of some logs holds, by core in hex, and how much of that versions need: bytes of chunks
 * before they are compressed. Reads the trees of the versions, each part once, and of the logs a sample.
 * A log with blocks that cannot be read is left out: damaged ones, or of a time whose key has not come yet
 * to a host that was put back. `onUnreadable` is told of versions of which nothing can be said.
 */
export async function survey(
  versions: readonly Known[],
  logs: ReadonlyMap<string, Log>,
  set: LogSet,
  { work, onUnreadable }: { work: Work; onUnreadable: (known: Known) => void }
): Promise<Map<string, Share>> {
  const live = new Map<string, Marks>()
  const pages = new Set<string>()
  for (const known of versions) {
    const { id, version } = known
    const placement = set.history.placement(id)
    if (placement?.heads.some(({ key }) => logs.has(key.toString('hex'))) !== true) continue
    const { places } = placement
    const cores = places.cores.map((key) => key.toString('hex'))
    const source = packsOf(new CoreTable(places.cores), set)
    const walk = new Walk(source, cores, live, pages, work)
    try {
      await walk.version(version, places)
    } catch (error) {
      if (!isOfTheContents(error)) throw error
      onUnreadable(known)
    }
  }
  const shares = new Map<string, Share>()
  for (const [core, log] of logs) {
    try {
      shares.set(core, { total: await rawBytes(log), live: live.get(core)?.bytes ?? 0 })
    } catch (error) {
      if (!isOfTheContents(error)) throw error
    }
  }
  return shares
}

/** Not of the disk or of this program. */
function isOfTheContents(error: unknown): boolean {
  return ['INTEGRITY', 'UNREACHABLE', 'BAD_KEY'].includes(ParcelError.from(error).code)
}

/** Of chunks: counted in a small log, in others as many for each byte stored as in a sample. */
async function rawBytes(log: Log): Promise<number> {
  const blocks = log.length - 1
  const isSmall = log.byteLength <= COUNTED
  let [raw, stored] = [0, 0]
  for (let n = 0; n < (isSmall ? blocks : Math.min(SAMPLE, blocks)); n++) {
    const index = 1 + (isSmall ? n : Math.floor(Math.random() * blocks))
    if (!log.has(index)) continue
    const body = await log.read(index)
    const { kind, items } = decodePack(body)
    stored += body.byteLength
    if (kind === 'chunks') raw += rawLength(items)
  }
  if (isSmall || stored === 0) return raw
  return (raw / stored) * log.byteLength
}

/** Notes which chunks are needed. */
class Walk {
  readonly #source: ItemSource
  readonly #cores: readonly string[]
  readonly #live: Map<string, Marks>
  readonly #pages: Set<string>
  readonly #work: Work

  constructor(
    source: ItemSource,
    cores: readonly string[],
    live: Map<string, Marks>,
    pages: Set<string>,
    work: Work
  ) {
    this.#source = source
    this.#cores = cores
    this.#live = live
    this.#pages = pages
    this.#work = work
  }

  async version(version: Version, places: Places): Promise<void> {
    await this.file({ ...version.table, place: places.table })
    await this.file(places.roots)
    for await (const { entry, place } of contents(this.#source, version, places)) {
      if (entry.type === 'file') await this.file({ ...entry, place })
    }
  }

  async file(tree: Omit<FileTree, 'chunking'>): Promise<void> {
    const isNew = (page: Place): boolean => isAdded(this.#pages, this.#nameOf(page))
    for await (const items of treeItems(this.#source, tree, isNew)) {
      this.#work.signal.throwIfAborted()
      for (const { place, length } of items) this.#note(place, length)
    }
  }

  #nameOf({ core, block, ordinal }: Place): string {
    return `${this.#cores[core] ?? ''}/${block}/${ordinal}`
  }

  #note({ core, block, ordinal }: Place, length: number): void {
    const name = this.#cores[core] ?? ''
    const marks = this.#live.get(name) ?? new Marks()
    this.#live.set(name, marks)
    if (marks.add(block, ordinal)) marks.bytes += length
  }
}

/** Items of a log that are needed: a bit each, for there are millions. */
class Marks {
  /** By 32 items of a block. */
  readonly #bits = new Map<number, number>()
  bytes = 0

  /** Whether it is new. */
  add(block: number, ordinal: number): boolean {
    const name = block * (MAX_PACK_ITEMS / 32) + (ordinal >> 5)
    const bits = this.#bits.get(name) ?? 0
    const bit = 1 << (ordinal & 31)
    if ((bits & bit) !== 0) return false
    this.#bits.set(name, bits | bit)
    return true
  }
}

function isAdded(seen: Set<string>, name: string): boolean {
  return !seen.has(name) && seen.add(name).size > 0
}
