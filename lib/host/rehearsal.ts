import type { Known } from '../parcel/history.js'
import type { Parcel } from '../parcel/parcel.js'
import { driverNamed } from '../vmm/drivers.js'
import type { ParcelList } from './parcel-list.js'

/** How often it is looked whether something came that can be resumed, ms. */
const LOOK = 5_000

/**
 * Has a monitor that is another program show that it can run a machine as soon as that is here: what it is
 * asked, and the machine that it makes for an instant, the first resume need not wait for then.
 */
export class Rehearsal {
  readonly #parcels: ParcelList
  readonly #seen = new WeakSet<Known>()
  #timer: NodeJS.Timeout | undefined
  #looking: Promise<void> | null = null

  /** @internal */
  constructor(parcels: ParcelList) {
    this.#parcels = parcels
  }

  start(): void {
    this.#timer = setInterval(() => {
      this.#looking ??= this.look().finally(() => (this.#looking = null))
    }, LOOK).unref()
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.#looking
  }

  /** Settles when the monitor was asked about all heads that are here. */
  async look(): Promise<void> {
    for (const parcel of this.#parcels.all) {
      const driver = driverNamed(parcel.driver)
      if (!driver.needsServer) continue
      for (const head of parcel.history.heads()) {
        if (this.#seen.has(head) || !(await this.#isHere(parcel, head))) continue
        this.#seen.add(head)
        // Whoever resumes it is told what is wrong.
        await driver.mismatches(head.version.facts).catch(() => [])
      }
    }
  }

  #isHere(parcel: Parcel, head: Known): Promise<boolean> {
    // What is damaged whoever resumes it is told too.
    return parcel.availability.isHere(head).catch(() => false)
  }
}
