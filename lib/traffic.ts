/** Bytes of blocks that went between this host and another one, for one parcel. */
export interface Moved {
  received: number
  sent: number
}

/** How fast it goes now, bytes a second. */
export interface Rates {
  down: number
  up: number
}

/** A rate is that of so long a time, in so many parts, ms. */
const [WINDOW, PARTS] = [3_000, 6]
const PART = WINDOW / PARTS

interface Count {
  total: Moved
  /** What moved in each part of the time, the newest last; by number of the part. */
  parts: { number: number; moved: Moved }[]
}

/** How much goes between this host and each other one, and how fast. */
export class Traffic {
  readonly #counts = new Map<string, Count>()
  /** When anything moved last, by `performance.now`. */
  last = performance.now()
  readonly #onMoved: (host: string, moved: Moved) => void

  /** `onMoved` is told of each block that went to or came from a host, in hex. */
  constructor(onMoved: (host: string, moved: Moved) => void = () => {}) {
    this.#onMoved = onMoved
  }

  /** Something of a parcel moved to or from a host, both in hex. */
  note(parcel: string, host: string, { received, sent }: Moved): void {
    this.last = performance.now()
    this.#onMoved(host, { received, sent })
    const name = `${parcel} ${host}`
    const count = this.#counts.get(name) ?? { total: { received: 0, sent: 0 }, parts: [] }
    this.#counts.set(name, count)
    const number = Math.floor(this.last / PART)
    let part = count.parts.at(-1)
    if (part?.number !== number) {
      part = { number, moved: { received: 0, sent: 0 } }
      count.parts.push(part)
      if (count.parts.length > PARTS + 1) count.parts.shift()
    }
    for (const moved of [count.total, part.moved]) {
      moved.received += received
      moved.sent += sent
    }
  }

  /** Since the start, of a parcel and a host. */
  total(parcel: string, host: string): Moved {
    return this.#counts.get(`${parcel} ${host}`)?.total ?? { received: 0, sent: 0 }
  }

  rates(parcel: string, host: string): Rates {
    // The part that is not over is not looked at: nobody knows how fast it will be.
    const now = Math.floor(performance.now() / PART)
    const rates = { down: 0, up: 0 }
    for (const { number, moved } of this.#counts.get(`${parcel} ${host}`)?.parts ?? []) {
      if (number < now - PARTS || number >= now) continue
      rates.down += moved.received / (WINDOW / 1_000)
      rates.up += moved.sent / (WINDOW / 1_000)
    }
    return { down: Math.round(rates.down), up: Math.round(rates.up) }
  }
}
