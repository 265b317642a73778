import { OpenedPacks } from '../chunk/opened-packs.js'
import type { UnpackJob } from '../chunk/unpack-job.js'
import type { WorkerPool } from '../chunk/worker-pool.js'
import type { Place } from '../format/entry.js'
import type { CoreTable } from './core-table.js'
import type { Log } from './log.js'

/** Opened packs kept: enough for the packs that neighbouring chunks and their pages are in. */
const CACHED = 12

/**
 * Items by place, out of the logs. An opened pack is kept for its neighbours. What it returns is
 * authentic for its core, not yet checked against the id that the caller wants: images do that.
 */
export class PackReader {
  readonly #cores: CoreTable
  readonly #openLog: (key: Buffer) => Promise<Log>
  readonly #wait: AbortSignal | null
  readonly #packs = new OpenedPacks(CACHED)

  /** `wait`: for blocks that are not here, until it aborts. */
  constructor(
    cores: CoreTable,
    openLog: (key: Buffer) => Promise<Log>,
    wait: AbortSignal | null = null
  ) {
    this.#cores = cores
    this.#openLog = openLog
    this.#wait = wait
  }

  /** The item's bytes, a view into its pack. Throws INTEGRITY, UNREACHABLE. */
  read(place: Place): Promise<Buffer> {
    return this.#packs.read(place, async () => {
      const log = await this.#openLog(this.#cores.key(place.core))
      return log.read(place.block, { wait: this.#wait })
    })
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
