import { lstat, mkdir, readdir, stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import Corestore from 'corestore'
import Hypercore from 'hypercore'
import CoreStorage from 'hypercore-storage'
import { isDamage, ParcelError } from '../errors.js'
import type { CoreKind } from '../format/core-header.js'
import { makeDurable } from '../keys/at-rest.js'
import type { KeyPair } from '../keys/identity.js'
import type { Keyring } from '../keys/keyring.js'
import { hasCode } from '../paths.js'
import { Log } from './log.js'
import { mendBitfield } from './mend.js'
import { removeOldReports } from './old-reports.js'

/** With less than this free, a failed write is taken for a full disk. */
const ROOM = 64 * 1024 * 1024
/** What a flush and a compaction may write beside the blocks themselves. */
const TIDYING = 16 * 1024 * 1024
/** So much that nobody needs may stay, or a quarter of the rest: to write that anew costs more. */
const WASTE = 8 * 1024 * 1024
/** All blocks are written anew, and all files of before go: policy and level as RocksDB numbers them, forced. */
const REWRITE = {
  blobGarbageCollectionPolicy: 1,
  blobGarbageCollectionAgeCutoff: 1,
  bottommostLevelCompaction: 2
}
/** Opening writes out what the write-ahead log holds: a write buffer, and some. */
const LEAST_ROOM = 40 * 1024 * 1024

/**
 * All cores of a host, in one RocksDB. One process has it open at a time. Cores are opened by
 * manifest or by key, never by name or key pair: corestore would keep the secret in the clear.
 */
export class Store {
  /** Set when a write failed: nothing more can be written before the store is opened anew. */
  isBroken = false
  /** The disk was full when a write failed first; later failures follow from it. */
  #isFull = false
  readonly #dir: string
  /** Inode of the lock file, which RocksDB holds open: no other file can have it. */
  readonly #lock: bigint | null
  readonly #storage: CoreStorage
  readonly #cores: Corestore
  readonly #logs = new Map<string, Promise<Log>>()

  private constructor(dir: string, lock: bigint | null, storage: CoreStorage, cores: Corestore) {
    this.#dir = dir
    this.#lock = lock
    this.#storage = storage
    this.#cores = cores
  }

  /** Opens or creates the store in `dir`. Throws STORE_IN_USE. */
  static async open(dir: string): Promise<Store> {
    await mkdir(dir, { recursive: true, mode: 0o700 })
    // Measured: with the default age cut-off the garbage collection of blobs writes all data twice.
    // Two write buffers are held in memory at a time, blocks and all.
    const storage = new CoreStorage(dir, {
      blobGarbageCollectionAgeCutOff: 0,
      writeBufferSize: 32 * 1024 * 1024
    })
    const cores = new Corestore(storage)
    try {
      await cores.ready()
    } catch (error) {
      await cores.close().catch(() => {})
      throw openFailure(dir, error)
    }
    // What tells a store from a copy is written once, and else not for good: without it a store does not open.
    await makeDurable(join(dir, 'CORESTORE'))
    await makeDurable(dir)
    await removeOldReports(join(dir, 'db'))
    return new Store(dir, await lockOf(dir), storage, cores)
  }

  /** This host's own core: it appends with `keyPair`, whose secret stays out of the store. */
  async own(kind: CoreKind, keyPair: KeyPair, keyring: Keyring): Promise<Log> {
    const manifest = ownManifest(keyPair.publicKey)
    const key = Hypercore.key(manifest)
    return this.#remember(key, kind, async () => {
      const core = await this.#ready(key, () => this.#cores.get({ manifest, allowFork: false }))
      return new Log(core, kind, keyring, keyPair, (error) => this.writeFailure(error))
    })
  }

  /** Another host's core, by its key. */
  async mirror(kind: CoreKind, key: Buffer, keyring: Keyring): Promise<Log> {
    return this.#remember(key, kind, async () => {
      const core = await this.#ready(key, () =>
        this.#cores.get({ key, allowFork: false, writable: false, inflightRange: [64, 512] })
      )
      return new Log(core, kind, keyring, null, (error) => this.writeFailure(error))
    })
  }

  /**
   * Makes everything appended so far durable: one write-ahead log keeps the order of all cores,
   * and this writes it out and syncs. An append alone is not durable.
   */
  async flush(): Promise<void> {
    try {
      await this.#storage.db.flush()
    } catch (error) {
      throw await this.writeFailure(error)
    }
  }

  /** Throws DISK_FULL when writing `bytes` more would leave too little for the store to tidy up. */
  async requireRoom(bytes: number): Promise<void> {
    const [free, needed] = [await this.#free(), bytes + TIDYING]
    if (free < needed) {
      const [here, wanted] = [free, needed].map((each) => Math.ceil(each / 1_048_576))
      throw this.#full(undefined, ` (${here} MiB free, ${wanted} needed to go on)`)
    }
  }

  /** Closes a log that stays on the disk. */
  async release(log: Log): Promise<void> {
    this.#logs.delete(nameOf(log.key, log.kind))
    await log.close()
  }

  /** Takes a log off the disk; its space comes back when the store is compacted. */
  async forget(log: Log): Promise<void> {
    this.#logs.delete(nameOf(log.key, log.kind))
    try {
      await log.purge()
    } catch (error) {
      throw await this.writeFailure(error)
    }
    // Else what is in memory of it would be given when it is opened again.
    this.#cores.cores.map.delete(Hypercore.discoveryKey(log.key).toString('hex'))
  }

  /** Takes a `data` log off the disk that may be there still, by its key. */
  async discard(key: Buffer, keyring: Keyring): Promise<void> {
    if (!(await this.#storage.hasCore(Hypercore.discoveryKey(key)))) return
    await this.forget(await this.mirror('data', key, keyring))
  }

  /** Gives the space of cleared blocks back to the disk. */
  async reclaim(): Promise<void> {
    try {
      await this.#storage.compact()
      if (await this.#isWasteful()) await this.#storage.db.compact(REWRITE)
    } catch (error) {
      throw await this.writeFailure(error)
    }
  }

  /**
   * Whether files of blocks stay that nothing is read from any more: RocksDB does not count what it passes
   * over in a range that was deleted, as happens when a host was killed, and lets go of such a file only when
   * all older ones have gone.
   */
  async #isWasteful(): Promise<boolean> {
    const logs = await Promise.all(this.#logs.values())
    const live = logs.reduce((sum, log) => sum + log.storedBytes, 0)
    let blobs = 0
    for (const name of await readdir(join(this.#dir, 'db'))) {
      if (!name.endsWith('.blob')) continue
      // It may have gone since.
      const { size } = await stat(join(this.#dir, 'db', name)).catch(() => ({ size: 0 }))
      blobs += size
    }
    return blobs - live > Math.max(WASTE, live / 4)
  }

  /**
   * What a write to the store or beside it failed with, as it is to be told. It leaves RocksDB refusing all
   * others until it is opened anew, and does not say why; a disk with no room to speak of says it.
   */
  async writeFailure(error: unknown): Promise<ParcelError> {
    this.isBroken = true
    this.#isFull ||= (await this.#free()) <= ROOM
    if (this.#isFull) return this.#full(error)
    if (error instanceof ParcelError || isDamage(error)) return ParcelError.from(error)
    const why = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)
    return new ParcelError(
      'FAILED',
      `a write to the store ${this.#dir} failed (${why}): do it again, and look after the disk if that goes on`,
      error
    )
  }

  #full(cause?: unknown, room = ''): ParcelError {
    return new ParcelError(
      'DISK_FULL',
      `the disk of ${this.#dir} is full${room}: free some space and do it again`,
      cause
    )
  }

  /** Whether there is enough room on the disk for the store to be opened and written to. */
  async hasRoom(): Promise<boolean> {
    return (await this.#free()) > LEAST_ROOM
  }

  /**
   * Whether its folder is gone, or another one is in its place. RocksDB finds its files by their paths: then
   * it would write into the other store and remove what it does not know, also when it is closed.
   */
  async isDisplaced(): Promise<boolean> {
    const lock = await lockOf(this.#dir)
    return lock !== this.#lock
  }

  async close(): Promise<void> {
    await this.#cores.close()
  }

  async #free(): Promise<number> {
    const { bavail, bsize } = await statfs(this.#dir)
    return bavail * bsize
  }

  /** Opens a core; when what rots of it can be made anew, that is done. */
  async #ready(key: Buffer, open: () => Hypercore): Promise<Hypercore> {
    const core = open()
    try {
      await core.ready()
      return core
    } catch (error) {
      await core.close().catch(() => {})
      if (!isDamage(error)) throw error
      const discoveryKey = Hypercore.discoveryKey(key)
      if (!(await mendBitfield(this.#storage, discoveryKey))) throw error
      // Else the one that failed would be given again.
      this.#cores.cores.map.delete(discoveryKey.toString('hex'))
    }
    const mended = open()
    await mended.ready()
    return mended
  }

  /** By kind too: somebody may have said that a core is what it is not. */
  async #remember(key: Buffer, kind: CoreKind, open: () => Promise<Log>): Promise<Log> {
    const id = nameOf(key, kind)
    const known = this.#logs.get(id)
    if (known !== undefined) return known
    const opening = open()
    this.#logs.set(id, opening)
    try {
      return await opening
    } catch (error) {
      this.#logs.delete(id)
      throw ParcelError.from(error)
    }
  }
}

/** null: there is none. */
async function lockOf(dir: string): Promise<bigint | null> {
  try {
    return (await lstat(join(dir, 'db', 'LOCK'), { bigint: true })).ino
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return null
    throw ParcelError.from(error, `cannot look for the store ${dir}`)
  }
}

function nameOf(key: Buffer, kind: CoreKind): string {
  return `${key.toString('hex')} ${kind}`
}

/** The key of the core that a key pair writes. */
export function ownCoreKey(publicKey: Buffer): Buffer {
  return Hypercore.key(ownManifest(publicKey))
}

function ownManifest(publicKey: Buffer) {
  return { version: 1, signers: [{ publicKey }] }
}

function openFailure(dir: string, error: unknown): ParcelError {
  const text = error instanceof Error ? error.message : String(error)
  if (/file descriptor could not be locked|lock hold|lock file|LOCK:/i.test(text)) {
    return new ParcelError('STORE_IN_USE', `the store ${dir} is open in another process`, error)
  }
  if (/device file|moved unsafely/i.test(text)) {
    return new ParcelError(
      'FORKED',
      `the store ${dir} was copied from elsewhere: join the parcels anew from a fresh home instead`,
      error
    )
  }
  if (
    isDamage(error) ||
    /not an? sstable|bad table magic|CURRENT file|MANIFEST-\d+: No such file/i.test(text)
  ) {
    return new ParcelError(
      'INTEGRITY',
      `the store ${dir} is damaged: 'hyperparcel rebuild' sets it aside and fetches everything again`,
      error
    )
  }
  return ParcelError.from(error, `cannot open the store ${dir}`)
}
