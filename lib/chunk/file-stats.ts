import type { BigIntStats } from 'node:fs'

/** What of stat(2) is wanted of a file; times in nanoseconds since 1970. */
export type FileStats = Pick<
  BigIntStats,
  'dev' | 'ino' | 'mode' | 'size' | 'blocks' | 'mtimeNs' | 'ctimeNs'
> &
  Pick<BigIntStats, 'isFile' | 'isDirectory' | 'isSymbolicLink'>

/** Numbers of a file's stats: they go from thread to thread as they are. */
export const STATS_FIELDS = 7
const TYPE = 0o170000n

/** Puts the stats of a file at number `n` of many. */
export function putStats(into: BigInt64Array, n: number, stats: FileStats): void {
  const at = n * STATS_FIELDS
  into[at] = stats.dev
  into[at + 1] = stats.ino
  into[at + 2] = stats.mode
  into[at + 3] = stats.size
  into[at + 4] = stats.blocks
  into[at + 5] = stats.mtimeNs
  into[at + 6] = stats.ctimeNs
}

/** What `putStats` put at number `n`. */
export class PackedStats implements FileStats {
  readonly #all: BigInt64Array
  readonly #at: number

  constructor(all: BigInt64Array, n: number) {
    this.#all = all
    this.#at = n * STATS_FIELDS
  }

  get dev(): bigint {
    return BigInt.asUintN(64, this.#field(0))
  }

  get ino(): bigint {
    return BigInt.asUintN(64, this.#field(1))
  }

  get mode(): bigint {
    return this.#field(2)
  }

  get size(): bigint {
    return this.#field(3)
  }

  get blocks(): bigint {
    return this.#field(4)
  }

  get mtimeNs(): bigint {
    return this.#field(5)
  }

  get ctimeNs(): bigint {
    return this.#field(6)
  }

  isFile(): boolean {
    return (this.mode & TYPE) === 0o100000n
  }

  isDirectory(): boolean {
    return (this.mode & TYPE) === 0o040000n
  }

  isSymbolicLink(): boolean {
    return (this.mode & TYPE) === 0o120000n
  }

  #field(n: number): bigint {
    return this.#all[this.#at + n] ?? 0n
  }
}
