import type { Log } from '../../log/log.js'
import type { Mirror } from '../../log/mirror.js'

/** A log of a parcel, and how far it has been heeded. */
export interface OpenLog {
  log: Log
  /** Who writes it, in hex: who announced it, then who its header names. */
  host: string
  /** The next block to read records from. */
  cursor: number
  /** Blocks before it of which the key is not here: it may come. */
  locked: number[]
  /** Its header is what it should be. */
  isProven: boolean
  /** Its header names a host that has not said that it is its own: nothing of it counts. */
  claims: string | null
  /** How many of its writer's `drop` records have been heeded. */
  drops: number
  /** It is our own, and what it lacks is fetched. */
  isMended: boolean
  mirror: Mirror | null
  stop: () => void
}
