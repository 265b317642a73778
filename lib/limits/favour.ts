import { setTimeout } from 'node:timers/promises'

/** While the favoured host gets blocks, others get one byte for so many of its. */
const SHARE = 8
/** It wants no more when it has asked for none for so long after the last one, ms. */
const QUIET = 2_000
/** Nor when it waits for some and none has gone to it for so long, ms: a block takes its time on a slow line. */
const STUCK = 30_000
/** How often others look whether it is their turn, ms. */
const LOOK = 25
/** What others may get at once when it was their turn for long, bytes. */
const MOST_CREDIT = 1_048_576

interface Favoured {
  /** In hex. */
  host: string
  /** Whether it is to be so still. */
  isStill: () => boolean
  /** Blocks that are to go to it. */
  waiting: number
  /** When something went to it, or it began to wait, by `performance.now`. */
  last: number
}

/** A host that blocks go to before all others. */
export class Favour {
  #favoured: Favoured | null = null
  /** What others may get meanwhile, bytes. */
  #credit = 0
  #others: Promise<void> = Promise.resolve()
  readonly #isNear: (host: string) => boolean

  /** `isNear`: whether a host, in hex, is on a network that this one is in. */
  constructor(isNear: (host: string) => boolean) {
    this.#isNear = isNear
  }

  /** Favours a host, in hex, as long as `isStill` says so, and no longer the one before. */
  set(host: string, isStill: () => boolean): void {
    this.#favoured = { host, isStill, waiting: 0, last: -Infinity }
    this.#credit = 0
  }

  /** Runs what sends a block to a host, in hex, when that may be sent one. */
  async run(host: string, send: () => Promise<void>): Promise<void> {
    const favoured = this.#favoured
    if (favoured?.host !== host) {
      await this.#turn(host)
      return send()
    }
    if (!isActive(favoured)) this.#begin(favoured)
    favoured.waiting++
    try {
      await send()
    } finally {
      favoured.waiting--
    }
  }

  /** So many bytes went to a host, in hex. */
  account(host: string, sent: number): void {
    if (this.#favoured === null) return
    if (this.#favoured.host !== host) {
      // What went while it was not its turn is not made up for.
      if (this.#isOver(host)) this.#credit = Math.max(this.#credit - sent, -MOST_CREDIT)
      return
    }
    if (!isActive(this.#favoured)) this.#begin(this.#favoured)
    this.#favoured.last = performance.now()
    this.#credit = Math.min(this.#credit + sent / SHARE, MOST_CREDIT)
    if (!this.#favoured.isStill()) this.#favoured = null
  }

  /** It gets blocks again after others got them. */
  #begin(favoured: Favoured): void {
    favoured.last = performance.now()
    this.#credit = 0
  }

  async #turn(host: string): Promise<void> {
    if (!this.#isOver(host)) return
    const turn = this.#others.then(async () => {
      while (this.#isOver(host) && this.#credit <= 0) await setTimeout(LOOK)
    })
    this.#others = turn
    await turn
  }

  /** Whether another host than this one gets blocks now, and is to get them first. */
  #isOver(host: string): boolean {
    const favoured = this.#favoured
    if (favoured === null || favoured.host === host || !isActive(favoured)) return false
    // What goes over the network that both are in takes nothing away from who is not.
    return this.#isNear(favoured.host) || !this.#isNear(host)
  }
}

/** Whether a host still wants blocks, as far as can be seen. */
function isActive({ waiting, last }: Favoured): boolean {
  return performance.now() - last <= (waiting > 0 ? STUCK : QUIET)
}
