import { setTimeout } from 'node:timers/promises'

/** While the favoured host gets blocks, others get one byte for so many of its. */
const SHARE = 8
/** It gets none any more when it got none for so long, ms: a block takes its time on a slow line. */
const QUIET = 2_000
/** How often others look whether it is their turn, ms. */
const LOOK = 25
/** What others may get at once when it was their turn for long, bytes. */
const MOST_CREDIT = 1_048_576

/** A host that blocks go to before all others. */
export class Favour {
  /** In hex, and as long as it is to be so. */
  #favoured: { host: string; isStill: () => boolean } | null = null
  /** When it got one, by `performance.now`; what others may get meanwhile, bytes. */
  #sent = -Infinity
  #credit = 0
  #others: Promise<void> = Promise.resolve()
  readonly #isNear: (host: string) => boolean

  /** `isNear`: whether a host, in hex, is on a network that this one is in. */
  constructor(isNear: (host: string) => boolean) {
    this.#isNear = isNear
  }

  /** Favours a host, in hex, as long as `isStill` says so, and no longer the one before. */
  set(host: string, isStill: () => boolean): void {
    this.#favoured = { host, isStill }
    this.#credit = 0
  }

  /** Waits until a host, in hex, may be sent a block. */
  async turn(host: string): Promise<void> {
    if (!this.#isOver(host)) return
    const turn = this.#others.then(async () => {
      while (this.#isOver(host) && this.#credit <= 0) await setTimeout(LOOK)
    })
    this.#others = turn
    await turn
  }

  /** So many bytes went to a host, in hex. */
  account(host: string, sent: number): void {
    if (this.#favoured === null) return
    if (this.#favoured.host !== host) {
      // What went while it was not its turn is not made up for.
      if (this.#isOver(host)) this.#credit = Math.max(this.#credit - sent, -MOST_CREDIT)
      return
    }
    const now = performance.now()
    if (now - this.#sent > QUIET) this.#credit = 0
    this.#sent = now
    this.#credit = Math.min(this.#credit + sent / SHARE, MOST_CREDIT)
    if (!this.#favoured.isStill()) this.#favoured = null
  }

  /** Whether another host than this one gets blocks now, and is to get them first. */
  #isOver(host: string): boolean {
    const favoured = this.#favoured
    if (favoured === null || favoured.host === host) return false
    if (performance.now() - this.#sent > QUIET) return false
    // What goes over the network that both are in takes nothing away from who is not.
    return this.#isNear(favoured.host) || !this.#isNear(host)
  }
}
