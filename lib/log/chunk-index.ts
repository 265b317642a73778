import { mkdir, rm } from 'node:fs/promises'
import { setImmediate } from 'node:timers/promises'
import RocksDB, { type ReadBatch } from 'rocksdb-native'
import { Reader, Writer } from '../format/codec.js'
import { keyedHash } from '../keys/hash.js'
import { NS } from '../keys/namespaces.js'
import { removeOldReports } from './old-reports.js'

/** Where an item stands, by its core's key. */
export interface Location {
  /** The first 8 bytes of the core's key. */
  core: Buffer
  block: number
  ordinal: number
}

/** Takes an error of a write, and gives the one that is thrown. */
export type WriteFailure = (error: unknown) => Promise<unknown>

const KEY_BYTES = 16
/** In place of a parcel's id: no hash is all zeros. */
const INDEXED = Buffer.alloc(32)
const WRITE_BUFFER = 8 * 1024 * 1024
export const CORE_PREFIX = 8

/**
 * Which chunks and pages this host can refer to, on disk: under a MAC of parcel and id, so the
 * file tells nobody which chunks are known. It is a hint that can be rebuilt from the packs; a
 * location counts only if the log really is that long.
 */
export class ChunkIndex {
  readonly #root: RocksDB
  readonly #db: RocksDB
  readonly #secret: Buffer
  readonly #failure: WriteFailure
  #asking: ReadBatch | null = null

  private constructor(root: RocksDB, db: RocksDB, secret: Buffer, failure: WriteFailure) {
    this.#root = root
    this.#db = db
    this.#secret = secret
    this.#failure = failure
  }

  /**
   * Opens or makes the index. One that is damaged is made anew: it is only a hint. After a write that failed
   * it takes no other until it is opened again: `failure` learns of it, and says what is thrown.
   */
  static async open(
    dir: string,
    secret: Buffer,
    failure: WriteFailure = async (error) => error
  ): Promise<ChunkIndex> {
    try {
      return await ChunkIndex.#open(dir, secret, failure)
    } catch {
      await rm(dir, { recursive: true, force: true })
      return ChunkIndex.#open(dir, secret, failure)
    }
  }

  static async #open(dir: string, secret: Buffer, failure: WriteFailure): Promise<ChunkIndex> {
    await mkdir(dir, { recursive: true, mode: 0o700 })
    // The whole database's buffer, too: RocksDB takes a tenth more than the largest for its log on the disk.
    const root = new RocksDB(dir, { writeBufferSize: WRITE_BUFFER })
    const family = new RocksDB.ColumnFamily('chunks', { writeBufferSize: WRITE_BUFFER })
    const db = root.columnFamily(family)
    await root.ready()
    await removeOldReports(dir)
    return new ChunkIndex(root, db, secret, failure)
  }

  /** One location or null for each id, in order. */
  async find(parcel: Buffer, ids: readonly Buffer[]): Promise<(Location | null)[]> {
    const values = await Promise.all(ids.map((id) => this.#get(this.#key(parcel, id))))
    return values.map((value) => (value === null ? null : decode(value)))
  }

  async add(parcel: Buffer, items: readonly { id: Buffer; location: Location }[]): Promise<void> {
    if (items.length === 0) return
    await this.#put(
      items.map(({ id, location }) => [this.#key(parcel, id), encode(location)] as const)
    )
  }

  /** How many blocks of a core have been indexed from their packs, whoever wrote them. */
  async indexed(core: Buffer): Promise<number> {
    const bytes = await this.#get(this.#key(INDEXED, core))
    return bytes === null ? 0 : new Reader(bytes, 'chunk index').varint()
  }

  async setIndexed(core: Buffer, length: number): Promise<void> {
    const value = Buffer.from(new Writer(8).varint(length).bytes())
    await this.#put([[this.#key(INDEXED, core), value]])
  }

  async close(): Promise<void> {
    // What was asked for until now is on its way then.
    await setImmediate()
    await this.#db.close()
    await this.#root.close()
  }

  async #put(pairs: readonly (readonly [key: Buffer, value: Buffer])[]): Promise<void> {
    const batch = this.#db.write()
    try {
      const puts = Promise.all(pairs.map(([key, value]) => batch.put(key, value)))
      puts.catch(() => {})
      await batch.flush()
      await puts
    } catch (error) {
      throw await this.#failure(error)
    } finally {
      batch.destroy()
    }
  }

  /** What is asked for at a time goes to RocksDB at once: a trip there takes as long as many keys. */
  #get(key: Buffer): Promise<Buffer | null> {
    this.#asking ??= this.#ask()
    return this.#asking.get(key)
  }

  #ask(): ReadBatch {
    const batch = this.#db.read()
    void setImmediate().then(async () => {
      this.#asking = null
      // Whoever asked is told by the answer to the key.
      await batch.flush().catch(() => {})
      batch.destroy()
    })
    return batch
  }

  #key(parcel: Buffer, id: Buffer): Buffer {
    return keyedHash(this.#secret, NS.index, parcel, id).subarray(0, KEY_BYTES)
  }
}

function encode({ core, block, ordinal }: Location): Buffer {
  return Buffer.from(new Writer(20).fixed(core, CORE_PREFIX).varint(block).varint(ordinal).bytes())
}

function decode(bytes: Buffer): Location {
  const reader = new Reader(bytes, 'chunk index')
  return { core: reader.fixed(CORE_PREFIX), block: reader.varint(), ordinal: reader.varint() }
}
