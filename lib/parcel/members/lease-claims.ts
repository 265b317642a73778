import { LEASE_SPAN, leasesOf, type Claim, type Lease } from './leases.js'
import type { Members } from './membership.js'

interface Parts {
  members: () => Members
  /** Whether a claim is the word of a host that belongs to the parcel, or did when it said so. */
  counts: (claim: Claim) => boolean
}

/** What hosts have said of who is to have a lease, and which leases follow from it. */
export class Leases {
  readonly #parts: Parts
  readonly #claims: Claim[] = []
  /** As they follow from so many claims and from these members. */
  #known: {
    all: readonly Lease[]
    counted: readonly Claim[]
    claims: number
    members: Members
  } | null = null

  constructor(parts: Parts) {
    this.#parts = parts
  }

  add(claim: Claim): void {
    this.#claims.push(claim)
  }

  /** Who may run the machine; null when nobody needs a lease for it. The same object as long as nothing changed. */
  get current(): Lease | null {
    return this.#heed().all.at(-1) ?? null
  }

  /** The number of the last lease that a host, in hex, really had; 0: it had none. */
  lastOf(host: string): number {
    return this.#heed().all.findLast(({ holder }) => holder === host)?.number ?? 0
  }

  /** The greatest number of a lease that a host, in hex, has said something about; 0: none. */
  votedUpTo(host: string): number {
    return this.#heed().counted.reduce(
      (most, { author, number }) => (author === host ? Math.max(most, number) : most),
      0
    )
  }

  /** For a lease after all that anybody has said something about. */
  get next(): number {
    const { all, counted } = this.#heed()
    const end = (all.at(-1)?.number ?? 0) + LEASE_SPAN
    const most = counted.reduce(
      (most, { number }) => (number < end ? Math.max(most, number) : most),
      0
    )
    return most + 1
  }

  #heed(): { all: readonly Lease[]; counted: readonly Claim[] } {
    const members = this.#parts.members()
    const claims = this.#claims.length
    const known = this.#known
    if (known?.claims === claims && known.members === members) return known
    const counted = this.#claims.filter((claim) => this.#parts.counts(claim))
    const found = leasesOf(counted, members.writers)
    const [before, last] = [known?.all.at(-1) ?? null, found.at(-1) ?? null]
    if (before !== null && last !== null && isSameLease(before, last)) found.splice(-1, 1, before)
    this.#known = { all: found, counted, claims, members }
    return this.#known
  }
}

function isSameLease(a: Lease, b: Lease): boolean {
  const isSame = a.number === b.number && a.holder === b.holder && a.origin === b.origin
  return (
    isSame &&
    a.heads.length === b.heads.length &&
    a.heads.every((id, n) => id.equals(b.heads[n] ?? Buffer.alloc(0)))
  )
}
