import type { WorkerPool } from '../chunk/worker-pool.js'
import type { Identity } from '../keys/identity.js'
import type { ChunkIndex } from '../log/chunk-index.js'
import type { Quota } from '../log/quota.js'
import type { RateLimit } from '../log/rate-limit.js'
import type { Store } from '../log/store.js'
import type { Traffic } from '../traffic.js'
import type { Lookaside } from './fetch/lookaside.js'

/** What a host lends to each of its parcels. */
export interface ParcelContext {
  store: Store
  index: ChunkIndex
  pool: WorkerPool
  /** How much of the disk copies of others' data may take. */
  quota: Quota
  /** What all parcels of the host have. */
  lookaside: Lookaside
  identity: Identity
  hostName: string
  /** Folder of the sealed local states. */
  stateDir: string
  clock: () => number
  traffic: Traffic
  /** How fast blocks may come. */
  down: RateLimit
  /** How fast they may come from one host, in hex. */
  downOf: (host: string) => RateLimit
  /** Whether a host, in hex, is on a network that this one is in. */
  isNear: (host: string) => boolean
  /** Runs what sends a block to a host, in hex, when that may go. */
  sending: (host: string, send: () => Promise<void>) => Promise<void>
  /**
   * The computer went down with the store open: what was appended last may be gone here although
   * peers or the index have it, so nothing is appended to the same logs again.
   */
  isSuspect: boolean
}
