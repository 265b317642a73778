import { statfs } from 'node:fs/promises'
import type { FileStats } from '../../chunk/file-stats.js'

/** Of tmpfs and ramfs, as statfs(2) gives them: what a program writes into a mapped file changes no times there. */
const TRACELESS: ReadonlySet<number> = new Set([0x0102_1994, 0x8584_58f6])

/** On which file systems a write to a mapped file can be seen in its times. */
export class MappedWrites {
  readonly #known = new Map<bigint, boolean>()

  async leaveTraces(found: {
    absolute: string | Buffer
    stats: Pick<FileStats, 'dev'>
  }): Promise<boolean> {
    const { dev } = found.stats
    const known = this.#known.get(dev)
    if (known !== undefined) return known
    const type = await statfs(found.absolute).then(
      (stats) => stats.type >>> 0,
      () => null
    )
    const leave = type !== null && !TRACELESS.has(type)
    this.#known.set(dev, leave)
    return leave
  }
}
