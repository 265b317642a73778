import { decompress } from '../chunk/compress.js'
import type { UnpackJob } from '../chunk/unpack-job.js'
import type { WorkerPool } from '../chunk/worker-pool.js'
import { ParcelError } from '../errors.js'
import type { Place } from '../format/entry.js'
import { decodePack, rawLength, type PackItem } from '../format/pack.js'
import type { CoreTable } from './core-table.js'
import type { Log } from './log.js'

interface OpenedPack {
  items: PackItem[]
  starts: number[]
  raw: Buffer
}

/** Opened packs kept: enough for the packs that neighbouring chunks and their pages are in. */
const CACHED = 12

/**
 * Items by place, out of the logs. An opened pack is kept for its neighbours. What it returns is
 * authentic for its core, not yet checked against the id that the caller wants: images do that.
 */
export class PackReader {
  readonly #cores: CoreTable
  readonly #openLog: (key: Buffer) => Promise<Log>
  readonly #wait: boolean
  readonly #cache = new Map<string, Promise<OpenedPack>>()

  constructor(cores: CoreTable, openLog: (key: Buffer) => Promise<Log>, { wait = false } = {}) {
    this.#cores = cores
    this.#openLog = openLog
    this.#wait = wait
  }

  /** The item's bytes, a view into its pack. Throws INTEGRITY, UNREACHABLE. */
  async read(place: Place): Promise<Buffer> {
    const pack = await this.#pack(place)
    const item = pack.items[place.ordinal]
    const start = pack.starts[place.ordinal]
    if (item === undefined || start === undefined) {
      throw new ParcelError('INTEGRITY', `a place names item ${place.ordinal} of a smaller pack`)
    }
    return pack.raw.subarray(start, start + item.length)
  }

  /**
   * Writes chunks of one pack to files, each verified against its id before (`ids`: 32 bytes a
   * chunk). All of it runs on the pool's threads. Throws INTEGRITY, UNREACHABLE.
   */
  async extract(
    { core, block: index }: { core: number; block: number },
    { writes, chunking, ids }: Pick<UnpackJob, 'writes' | 'chunking' | 'ids'>,
    pool: WorkerPool
  ): Promise<void> {
    const log = await this.#openLog(this.#cores.key(core))
    const { block, sealing } = await log.readSealed(index, { wait: this.#wait })
    await pool.unpack({ block: owned(block), sealing, core: log.key, index, writes, chunking, ids })
  }

  #pack({ core, block }: Place): Promise<OpenedPack> {
    const name = `${core}/${block}`
    const known = this.#cache.get(name)
    this.#cache.delete(name)
    const pack = known ?? this.#load(core, block)
    this.#cache.set(name, pack)
    if (known === undefined) {
      pack.catch(() => this.#cache.delete(name))
      const oldest = this.#cache.size > CACHED ? this.#cache.keys().next().value : undefined
      if (oldest !== undefined) this.#cache.delete(oldest)
    }
    return pack
  }

  async #load(core: number, block: number): Promise<OpenedPack> {
    const log = await this.#openLog(this.#cores.key(core))
    const { codec, items, frame } = decodePack(await log.read(block, { wait: this.#wait }))
    const raw = await decompress(codec, frame, rawLength(items))
    let end = 0
    const starts = items.map(({ length }) => (end += length) - length)
    return { items, starts, raw }
  }
}

/** The bytes in a buffer of their own, which a thread can take over. */
function owned(bytes: Buffer): ArrayBuffer {
  const { buffer, byteOffset, byteLength } = bytes
  const isWhole = byteOffset === 0 && byteLength === buffer.byteLength
  if (isWhole && buffer instanceof ArrayBuffer) return buffer
  const copy = new ArrayBuffer(byteLength)
  new Uint8Array(copy).set(bytes)
  return copy
}
