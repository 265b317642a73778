import type { Place } from '../../format/entry.js'
import type { FileEntry } from '../../format/file-table.js'
import { BaseTree } from '../../image/base-tree.js'
import type { Content } from '../../image/contents.js'
import type { ItemSource } from '../../image/items.js'
import type { CoreTable } from '../../log/core-table.js'
import type { BaseFile, ProvenBase } from '../commit/base-files.js'

/** The version that a folder continues, by which what is in it is known. */
export interface Before extends ProvenBase {
  id: Buffer
  /** Whether each write can be seen in a file's times. */
  hasTraces: boolean
}

type FileContent = Content & { entry: FileEntry & { type: 'file' } }

/**
 * The files of a folder that a version is to replace, as the version that it continues tells of them. A chunk that
 * both versions have, and at the same place of a log, has been proved true: it need not be read from there again.
 * So have the pages that tell of a whole file, if they mean the same: they number logs by their version's table.
 */
export class OldFiles {
  /** The folder. */
  readonly dir: string
  readonly #base: Before
  readonly #cores: CoreTable
  /** Whether what pages of the version before mean is what they mean in the new one. */
  readonly #isSameTable: boolean

  /** `cores`: those of the version that is to be written. */
  constructor(dir: string, base: Before, cores: CoreTable) {
    this.dir = dir
    this.#base = base
    this.#cores = cores
    this.#isSameTable = base.cores.keys.every((key, n) => cores.keys[n]?.equals(key) === true)
  }

  /** From the first one on: looks up the old file of each of a version's, in the order of its table. */
  walk(): (content: Content) => Promise<OldFile | null> {
    const files = this.#base.files()
    return async (content) => {
      if (!isFile(content)) return null
      const base = await files.at(content.entry.path)
      if (base === null || base.entry.chunking !== content.entry.chunking) return null
      const stamp = this.#base.hasTraces && this.#isSameTable ? base.stamp : null
      return new OldFile(this, { ...base, stamp }, content, files.source)
    }
  }

  /** Says how the n-th file of the version before is known from now on. */
  restamp(n: number, stamp: OldFile['stamp']): void {
    this.#base.stamps.set(n, stamp)
  }

  /** Whether a place of the new version is one of the version before. */
  isSamePlace(place: Place | null, old: Place | null): boolean {
    if (place === null || old === null) return place === old
    const [core, before] = [this.#cores.key(place.core), this.#base.cores.key(old.core)]
    return core.equals(before) && place.block === old.block && place.ordinal === old.ordinal
  }
}

/** A file of the version before, and the one that is to take its place. */
export class OldFile {
  readonly #folder: OldFiles
  readonly #base: BaseFile
  readonly #content: FileContent
  readonly #source: ItemSource
  #tree: BaseTree | null = null

  constructor(folder: OldFiles, base: BaseFile, content: FileContent, source: ItemSource) {
    this.#folder = folder
    this.#base = base
    this.#content = content
    this.#source = source
  }

  /** Absolute. */
  get path(): Buffer {
    return Buffer.concat([Buffer.from(`${this.#folder.dir}/`), this.#content.entry.path])
  }

  /** Its number among the files of the version before. */
  get n(): number {
    return this.#base.n
  }

  get stamp(): BaseFile['stamp'] {
    return this.#base.stamp
  }

  /** Whether the new version has it as it is: then it may stay, if nobody has written to it. */
  get isWanted(): boolean {
    const [old, { entry, place }] = [this.#base, this.#content]
    // Its monitor maps memory, and writes to it without a trace.
    if (old.stamp === null || entry.role === 'memory') return false
    const isSame =
      entry.root === null ? old.entry.root === null : old.entry.root?.equals(entry.root) === true
    const { size, mode, mtime } = old.entry
    const isAlike = entry.size === size && entry.mode === mode && entry.mtime === mtime
    return isSame && isAlike && this.#folder.isSamePlace(place, old.place)
  }

  /** Whether a chunk was the same, and proved so. */
  async has(chunk: number, { id, place }: { id: Buffer; place: Place }): Promise<boolean> {
    this.#tree ??= new BaseTree(this.#source, { ...this.#base.entry, place: this.#base.place })
    // Where the version before is damaged nothing is known of it.
    const old = await this.#tree.at(chunk).catch(() => null)
    if (old?.entry.kind !== 'chunk' || !old.entry.id.equals(id)) return false
    return this.#folder.isSamePlace(place, old.places[0] ?? null)
  }
}

function isFile(content: Content): content is FileContent {
  return content.entry.type === 'file'
}
