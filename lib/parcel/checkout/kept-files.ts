import { setTimeout } from 'node:timers/promises'
import { Batches } from '../../batches.js'
import type { WorkerPool } from '../../chunk/worker-pool.js'
import type { FileEntry } from '../../format/file-table.js'
import type { Content } from '../../image/contents.js'
import { isAsStored } from '../commit/changes.js'
import { systemTime, type FileStamp, type FileStamps } from '../commit/file-stamps.js'
import type { OldFile, OldFiles } from './old-files.js'

/** Files that one thread gives a second name in one go. */
const MOST = 64
const LOOKED_AT_ONCE = 256
const LIMITS = { items: MOST, size: MOST }

/** A file that stayed. */
interface Kept {
  /** Its number among the files of the version. */
  n: number
  path: Buffer
  entry: FileEntry & { type: 'file' }
}

/**
 * Files of the folder before that stay: they get a second name in the new one, and are neither read nor written.
 * That changes the time by which they are known, on both sides.
 */
export class KeptFiles {
  /** Whether there is any. */
  isAny = false
  readonly #old: OldFiles
  readonly #pool: WorkerPool
  readonly #batches: Batches<{ old: OldFile; to: Buffer; stamp: FileStamp }, FileStamp | null>

  constructor(old: OldFiles, pool: WorkerPool) {
    this.#old = old
    this.#pool = pool
    this.#batches = new Batches(async (files) => {
      const linked = await pool.linkFiles(
        files.map(({ old: { path }, to, stamp }) => {
          return { from: path, to, ino: stamp.ino, ctimeNs: stamp.ctime }
        })
      )
      return linked.map((stats) => stats && { ino: stats.ino, ctime: stats.ctimeNs })
    }, LIMITS)
  }

  /** Gives a file a second name; null when it is not as it was, or can have none. */
  async keep(old: OldFile, to: Buffer): Promise<FileStamp | null> {
    const { stamp } = old
    if (!old.isWanted || stamp === null) return null
    const now = await this.#batches.add({ old, to, stamp }, 1)
    if (now === null) return null
    this.isAny = true
    this.#old.restamp(old.n, now)
    return now
  }

  /**
   * When what was before is gone, and the files that stayed have but one name again: puts by what they are known
   * now in place of what is in `stamps`. What was written to meanwhile has none, and is read the next time.
   */
  async restamp(stamps: FileStamps, contents: AsyncIterable<Content>): Promise<void> {
    if (!this.isAny) return
    try {
      let known: Kept[] = []
      let files = 0
      const find = this.#old.walk()
      for await (const content of contents) {
        if (content.entry.type !== 'file') continue
        const n = files++
        const old = await find(content)
        if (old?.isWanted !== true) continue
        known.push({ n, path: old.path, entry: content.entry })
        if (known.length < LOOKED_AT_ONCE) continue
        await this.#look(known, stamps)
        known = []
      }
      if (known.length > 0) await this.#look(known, stamps)
    } catch {
      // The folder is complete; what has no stamp that is true any more is read the next time.
    }
    await setTimeout(stamps.untilSettled(systemTime()))
    stamps.keepSettled(systemTime())
  }

  async #look(known: readonly Kept[], stamps: FileStamps): Promise<void> {
    const looked = await this.#pool.look(known.map(({ path }) => path))
    for (const [i, { n, entry }] of known.entries()) {
      const [stats, before] = [looked[i] ?? null, stamps.at(n)]
      const isSame = stats !== null && stats.ino === before?.ino && isAsStored(entry, stats)
      stamps.set(n, isSame ? { ino: stats.ino, ctime: stats.ctimeNs } : null)
    }
  }
}
