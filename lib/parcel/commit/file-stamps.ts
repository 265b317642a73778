import { join } from 'node:path'
import type { FileStats } from '../../chunk/file-stats.js'
import { readSealed, writeSealed } from '../../keys/at-rest.js'

/** Inode and ctime, by which a file that nobody wrote to is known again. */
export interface FileStamp {
  ino: bigint
  ctime: bigint
}

const FORMAT = 1
const HEADER = 1 + 32 + 32
const STAMP = 16
const NONE = Buffer.alloc(STAMP)
/** More files than these are read again each time. */
const MOST = 3_000_000
/** Clocks of file systems tick every few milliseconds; some know nothing but whole seconds. */
const TICK = 30_000_000n
const COARSE_TICK = 2_100_000_000n
const SECOND = 1_000_000_000n
/** By then a system has written back what a program put into a mapped file, and sees its next write. */
const WRITEBACK = 60n * SECOND

/**
 * The stamps of a version's regular files in the order of its table, kept on this host beside the
 * parcel's state. Only a hint: it counts for the version that the folder continues, and without it
 * everything is read.
 */
export class FileStamps {
  /** The hash of the places that the version was written by or out of; zeros when it is not known. */
  places: Buffer = Buffer.alloc(32)
  #bytes = Buffer.alloc(0)
  #count = 0

  get count(): number {
    return this.#count
  }

  /** The next file's stamp; null for one that must be read again. */
  push(stamp: FileStamp | null): void {
    const at = this.#count++ * STAMP
    if (this.#count > MOST) return
    if (at === this.#bytes.byteLength) {
      const larger = Buffer.alloc(Math.max(64 * STAMP, 2 * at))
      this.#bytes.copy(larger)
      this.#bytes = larger
    }
    this.#put(at, stamp)
  }

  /** Another stamp for the n-th file; nothing for one that has no place among them. */
  set(n: number, stamp: FileStamp | null): void {
    if (n >= Math.min(this.#count, MOST)) return
    this.#put(n * STAMP, stamp)
  }

  /** The stamp of the n-th file. */
  at(n: number): FileStamp | null {
    const one = this.#bytes.subarray(n * STAMP, (n + 1) * STAMP)
    if (n >= this.#count || one.byteLength < STAMP || one.equals(NONE)) return null
    return { ino: one.readBigUInt64LE(0), ctime: one.readBigInt64LE(8) }
  }

  /** Milliseconds from `now` until the clock of the file system has ticked since the last stamp. */
  untilSettled(now: bigint): number {
    let newest = 0n
    for (let n = 0; n < this.#count; n++) {
      const { ctime } = this.at(n) ?? { ctime: 0n }
      if (ctime > newest) newest = ctime
    }
    const left = Math.min(Number(TICK), Number(newest + TICK - now)) / 1e6
    // Timers and the system's clock are in whole milliseconds.
    return left <= 0 ? 0 : Math.ceil(left) + 2
  }

  /** Forgets those of files that were written so lately that a write at `now` might leave no trace. */
  keepSettled(now: bigint): void {
    for (let n = 0; n < this.#count; n++) {
      const stamp = this.at(n)
      if (stamp !== null && isTooNew(stamp.ctime, now)) NONE.copy(this.#bytes, n * STAMP)
    }
  }

  #put(at: number, stamp: FileStamp | null): void {
    // Node gives a number beyond 2^63 as one below zero.
    this.#bytes.writeBigUInt64LE(BigInt.asUintN(64, stamp?.ino ?? 0n), at)
    this.#bytes.writeBigInt64LE(stamp?.ctime ?? 0n, at + 8)
  }

  async save(dir: string, key: Buffer, parcel: Buffer, version: Buffer): Promise<void> {
    const stamps = this.#bytes.subarray(0, Math.min(this.#count, MOST) * STAMP)
    const bytes = Buffer.concat([Buffer.from([FORMAT]), version, this.places, stamps])
    await writeSealed(pathOf(dir, parcel), key, bytes)
  }

  /** Those of a version; none when other ones, or none that can be read, are kept here. */
  static async load(
    dir: string,
    key: Buffer,
    parcel: Buffer,
    version: Buffer
  ): Promise<FileStamps> {
    const stamps = new FileStamps()
    const bytes = await readSealed(pathOf(dir, parcel), key).catch(() => Buffer.alloc(0))
    if (bytes[0] !== FORMAT || !bytes.subarray(1, 33).equals(version)) return stamps
    stamps.places = Buffer.from(bytes.subarray(33, HEADER))
    stamps.#bytes = Buffer.from(bytes.subarray(HEADER))
    stamps.#count = Math.floor(stamps.#bytes.byteLength / STAMP)
    return stamps
  }
}

/**
 * The stamp of a file whose contents were settled at `now` (ns since 1970, by the system's clock):
 * null if a later write could leave it as it is. That is so within a tick of the file system's
 * clock, and for a while if a program may have the file mapped (`isSynced`: not since the last sync).
 */
export function stampOf(
  { ino, ctimeNs }: FileStats,
  now: bigint,
  isSynced: boolean
): FileStamp | null {
  if (isTooNew(ctimeNs, now)) return null
  return isSynced || now - ctimeNs >= WRITEBACK ? { ino, ctime: ctimeNs } : null
}

function isTooNew(ctime: bigint, now: bigint): boolean {
  return now - ctime < tickOf(ctime)
}

/** Of the clock that gave a time. */
function tickOf(ctime: bigint): bigint {
  return ctime % SECOND === 0n ? COARSE_TICK : TICK
}

/**
 * Milliseconds from `now` until a write changes the times of a file whose ctime is this: within a tick it may
 * leave them as they are. 0 also for a time far ahead of the clock, which no write gives now.
 */
export function untilShown(ctime: bigint, now: bigint): number {
  const tick = tickOf(ctime)
  const age = now - ctime
  return age >= tick || age <= -tick ? 0 : Math.ceil(Number(tick - age) / 1e6) + 2
}

/** The time of the system's clock that a change from now on has, or a later one. */
export function sinceNow(): bigint {
  return systemTime() - TICK
}

/** Whether a file is young enough for a sync to matter to its stamp. */
export function isYoung({ ctimeNs }: FileStats, now: bigint): boolean {
  return now - ctimeNs < WRITEBACK
}

/** Of the system, which also stamps the files: no other clock can be compared with theirs. */
export function systemTime(): bigint {
  return BigInt(Date.now()) * 1_000_000n
}

function pathOf(dir: string, parcel: Buffer): string {
  return join(dir, `${parcel.toString('hex')}.files`)
}
