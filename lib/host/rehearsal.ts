import type { Known } from '../parcel/history.js'
import { driverNamed } from '../vmm/drivers.js'
import type { ParcelList } from './parcel-list.js'

/** How often it is looked whether there is something new to be resumed, ms. */
const LOOK = 2_000

/**
 * Has a monitor that is another program show that it can run a machine as soon as it is heard of, while it is
 * on its way: what it is asked, and the machine that it makes for an instant, the first resume need not wait for.
 */
export class Rehearsal {
  readonly #parcels: ParcelList
  readonly #seen = new WeakSet<Known>()
  #timer: NodeJS.Timeout | undefined
  #looking: Promise<void> | null = null
  #isClosed = false

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
    this.#isClosed = true
    clearInterval(this.#timer)
    await this.#looking
  }

  /** Settles when the monitor was asked about all heads. */
  async look(): Promise<void> {
    for (const parcel of this.#parcels.all) {
      const driver = driverNamed(parcel.driver)
      if (!driver.needsServer) continue
      for (const head of parcel.history.heads()) {
        if (this.#isClosed) return
        if (this.#seen.has(head)) continue
        this.#seen.add(head)
        // Whoever resumes it is told what is wrong.
        await driver.mismatches(head.version.facts).catch(() => [])
      }
    }
  }
}
