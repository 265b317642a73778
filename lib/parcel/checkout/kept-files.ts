import { Batches } from '../../batches.js'
import type { FileStats } from '../../chunk/file-stats.js'
import type { NamedTwice } from '../../chunk/second-names.js'
import type { WorkerPool } from '../../chunk/worker-pool.js'
import type { Content } from '../../image/contents.js'
import type { FileStamp, FileStamps } from '../commit/file-stamps.js'
import type { OldFile, OldFiles } from './old-files.js'

/** Files that one thread takes in one go. */
const LIMITS = { items: 64, size: 64 }
/** Of those that are given up, at a time. */
const AT_ONCE = 1_024

/**
 * Files of the folder before that stay: they get a second name in the new one, and are neither read nor written;
 * then one of the two goes. Each step changes the time by which they are known: what somebody else has changed in
 * between is told from that, and not taken for known.
 */
export class KeptFiles {
  /** Whether there is any. */
  isAny = false
  readonly #old: OldFiles
  readonly #pool: WorkerPool
  readonly #links: Batches<NamedTwice, FileStats | null>
  readonly #looks: Batches<NamedTwice, FileStats | null>

  constructor(old: OldFiles, pool: WorkerPool) {
    this.#old = old
    this.#pool = pool
    this.#links = new Batches((files) => pool.named('linkFiles', files), LIMITS)
    this.#looks = new Batches((files) => pool.named('lookAtFiles', files), LIMITS)
  }

  /** Whether a file is as it was known: then it will stay, unless it cannot. */
  async isThere(old: OldFile): Promise<boolean> {
    const { path, stamp } = old
    if (!old.isWanted || stamp === null) return false
    return (await this.#looks.add({ path, second: path, ...stamp }, 1)) !== null
  }

  /** Gives a file a second name; null when it is not as it was, or can have none. */
  async keep(old: OldFile, to: Buffer): Promise<FileStamp | null> {
    const { path, stamp } = old
    if (!old.isWanted || stamp === null) return null
    const now = await this.#links.add({ path, second: to, ...stamp }, 1)
    if (now === null) return null
    this.isAny = true
    const linked = { ino: now.ino, ctime: now.ctimeNs }
    this.#old.restamp(old.n, linked)
    return linked
  }

  /** The new folder is where the old one was, which is at `previous` now and about to go: puts in `stamps` what is so then. */
  async takeOver(
    previous: string,
    stamps: FileStamps,
    contents: AsyncIterable<Content>
  ): Promise<void> {
    await this.#unlink(previous, contents, (n, _, stamp) => {
      // One that could not stay was made anew.
      if (stamps.at(n)?.ino === stamp.ino) stamps.set(n, stamp)
    })
  }

  /** The old folder stays, and what was built at `partial` is about to go. */
  async giveBack(partial: string, contents: AsyncIterable<Content>): Promise<void> {
    await this.#unlink(partial, contents, (_, old, stamp) => this.#old.restamp(old.n, stamp))
  }

  /** Takes the name in a folder from the files that have two. What is not done here is only read again some time. */
  async #unlink(
    folder: string,
    contents: AsyncIterable<Content>,
    onDone: (n: number, old: OldFile, stamp: FileStamp) => void
  ): Promise<void> {
    let files: { n: number; old: OldFile; named: NamedTwice }[] = []
    const flush = async (): Promise<void> => {
      const done = await this.#pool.named(
        'unlinkFiles',
        files.map(({ named }) => named)
      )
      for (const [i, { n, old }] of files.entries()) {
        const stats = done[i] ?? null
        if (stats !== null) onDone(n, old, { ino: stats.ino, ctime: stats.ctimeNs })
      }
      files = []
    }
    try {
      let n = 0
      const find = this.#old.walk()
      for await (const content of contents) {
        if (content.entry.type !== 'file') continue
        const old = await find(content)
        if (old?.isWanted === true && old.stamp !== null) {
          const second = Buffer.concat([Buffer.from(`${folder}/`), content.entry.path])
          files.push({ n, old, named: { path: old.path, second, ...old.stamp } })
        }
        n++
        if (files.length === AT_ONCE) await flush()
      }
      if (files.length > 0) await flush()
    } catch {
      // The pool was closed, or a log cannot be read any more.
    }
  }
}
