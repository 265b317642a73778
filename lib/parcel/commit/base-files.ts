import type { FileStats } from '../../chunk/file-stats.js'
import { comparePaths, type FileEntry } from '../../format/file-table.js'
import type { Place } from '../../format/entry.js'
import type { ItemSource } from '../../image/items.js'
import { MTIME_TOLERANCE } from './changes.js'
import type { Content } from '../../image/contents.js'
import type { FileStamp, FileStamps } from './file-stamps.js'

/** A regular file as the version before has it. */
export interface BaseFile {
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
      const stamp = this.#stamps.at(this.#files++)
      if (order === 0) return { entry, place, stamp }
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
  const age = stats.mtimeNs - entry.mtime
  const isSameTime = age < MTIME_TOLERANCE && age > -MTIME_TOLERANCE
  return isSameTime && stats.isFile() && BigInt(entry.size) === stats.size
}
