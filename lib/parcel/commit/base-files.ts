import type { FileStats } from '../../chunk/file-stats.js'
import { comparePaths, type FileEntry } from '../../format/file-table.js'
import type { Place } from '../../format/entry.js'
import type { ItemSource } from '../../image/items.js'
import { isAsStored } from './changes.js'
import { contents, type Content } from '../../image/contents.js'
import { CoreTable } from '../../log/core-table.js'
import type { ParcelContext } from '../context.js'
import { placesHash, type Known } from '../history.js'
import type { LogSet } from '../logs/log-set.js'
import { packsOf } from '../version-packs.js'
import { FileStamps, type FileStamp } from './file-stamps.js'

/**
 * A version that a folder continues, of which all was read and proved true, or written here: only then may what it
 * says of the places of items be taken over unread.
 */
export interface ProvenBase {
  /** Of its files in the folder. */
  stamps: FileStamps
  cores: CoreTable
  files: () => BaseFiles
}

/** null for a version that was never proved true here, or is said to be elsewhere. */
export async function provenBase(
  { id, version }: Known,
  set: LogSet,
  { stateDir, identity }: Pick<ParcelContext, 'stateDir' | 'identity'>
): Promise<ProvenBase | null> {
  const places = set.history.placement(id)?.places
  if (places === undefined) return null
  const stamps = await FileStamps.load(stateDir, identity.atRest, set.parcel, id)
  const self = identity.publicKey.toString('hex')
  const isOurs = set.history.coresOf(id).every(({ key }) => set.writerOf(key) === self)
  if (!isOurs && !stamps.places.equals(placesHash(places))) return null
  const cores = new CoreTable(places.cores)
  const source = packsOf(cores, set)
  return {
    stamps,
    cores,
    files: () => new BaseFiles(source, contents(source, version, places), stamps)
  }
}

/** A regular file as the version before has it. */
export interface BaseFile {
  /** Its number among the files of that version. */
  n: number
  entry: FileEntry & { type: 'file' }
  place: Place | null
  stamp: FileStamp | null
}

/**
 * The files of the version that a folder continues, to be looked up in the order of a file table.
 * When that version cannot be read there are none: all is read from the folder instead.
 */
export class BaseFiles {
  readonly source: ItemSource
  readonly #contents: AsyncIterator<Content>
  readonly #stamps: FileStamps
  #next: Content | null = null
  #files = 0
  #isEnded = false

  constructor(source: ItemSource, contents: AsyncIterable<Content>, stamps: FileStamps) {
    this.source = source
    this.#contents = contents[Symbol.asyncIterator]()
    this.#stamps = stamps
  }

  /** The file at a path; each call with a greater one. */
  async at(path: Buffer): Promise<BaseFile | null> {
    for (;;) {
      if (this.#next === null) await this.#advance()
      if (this.#next === null) return null
      const { entry, place } = this.#next
      const order = comparePaths(entry.path, path)
      if (order > 0) return null
      this.#next = null
      if (entry.type !== 'file') {
        if (order === 0) return null
        continue
      }
      const n = this.#files++
      if (order === 0) return { n, entry, place, stamp: this.#stamps.at(n) }
    }
  }

  async #advance(): Promise<void> {
    if (this.#isEnded) return
    try {
      const next = await this.#contents.next()
      if (next.done === true) this.#isEnded = true
      else this.#next = next.value
    } catch {
      // Damaged, or not all here: a version can do without, and `verify` is who looks for damage.
      this.#isEnded = true
    }
  }
}

/** Whether a file is, by its size, times and inode, as the version before has it. */
export function isUnchanged({ entry, stamp }: BaseFile, stats: FileStats): boolean {
  if (stamp === null || stamp.ino !== stats.ino || stamp.ctime !== stats.ctimeNs) return false
  return isAsStored(entry, stats)
}
