import type { Consistency } from '../choices.js'
import { leaseInfo, namesOfMembers } from './describe.js'
import { ParcelError } from '../errors.js'
import type { LeaseInfo } from '../info.js'
import { memberNamed } from '../names.js'
import type { Parcel } from '../parcel/parcel.js'
import type { ParcelList } from './parcel-list.js'
import { Task } from '../progress.js'
import { takeLease } from './resume.js'

const TIMEOUT = 60_000

interface Parts {
  parcels: ParcelList
  /** One thing at a time on a parcel, in the order asked for. */
  alone: <T>(parcel: Parcel, work: () => Promise<T>) => Promise<T>
}

/** How strict a parcel is on this host, and who may run it. */
export class Leases {
  readonly #parts: Parts

  /** @internal */
  constructor(parts: Parts) {
    this.#parts = parts
  }

  /** Who has the lease; null when nobody needs one. */
  get(name: string): LeaseInfo | null {
    return leaseInfo(this.#parts.parcels.named(name))
  }

  /**
   * Sets how strict a resume is here; with `lease`, on every host. Throws USAGE; LEASE_HELD when another
   * host has the lease, which alone can end it.
   */
  async setConsistency(
    name: string,
    { consistency, days }: Partial<{ consistency: Consistency; days: number }>
  ): Promise<void> {
    if (days !== undefined && (!Number.isInteger(days) || days < 1 || days > 3_650)) {
      throw new ParcelError('USAGE', 'a number of days, at most 3,650')
    }
    const parcel = this.#parts.parcels.named(name)
    if (consistency === 'lease') await parcel.leases.begin()
    else if (consistency !== undefined) await parcel.leases.end()
    const local = consistency === undefined || consistency === 'lease' ? {} : { consistency }
    await parcel.settings.setStrictness({ ...local, ...(days === undefined ? {} : { days }) })
  }

  /**
   * Gets the lease: from its holder, or from a majority of those that may run it when that is not found;
   * `isForced`: from nobody. Throws LEASE_HELD after `timeout` ms, or when it is in use there; USAGE when
   * there is none.
   */
  take(
    name: string,
    { timeout = TIMEOUT, isForced = false }: { timeout?: number; isForced?: boolean } = {}
  ): Task<LeaseInfo> {
    return new Task(async (work) => {
      const parcel = this.#parts.parcels.named(name)
      return this.#parts.alone(parcel, async () => {
        requireLease(parcel)
        await takeLease(parcel, { timeout, force: isForced ? 'always' : 'never' }, work)
        return requireLease(parcel)
      })
    })
  }

  /** Gives the lease to another member. Throws LEASE_HELD when it is not here or in use, USAGE. */
  async handOver(name: string, host: string): Promise<LeaseInfo> {
    const parcel = this.#parts.parcels.named(name)
    const id = memberNamed(namesOfMembers(parcel), host)
    return this.#parts.alone(parcel, async () => {
      requireLease(parcel)
      await parcel.leases.handOver(id)
      return requireLease(parcel)
    })
  }
}

function requireLease(parcel: Parcel): LeaseInfo {
  const info = leaseInfo(parcel)
  if (info !== null) return info
  throw new ParcelError(
    'USAGE',
    `nobody needs a lease for "${parcel.name}": 'hyperparcel consistency ${parcel.name} lease' begins with it`
  )
}
