import type { MemberRole } from '../format/control-record.js'
import type { Extension } from '../format/extension.js'

/** How a lease came about. */
export type LeaseOrigin = 'begun' | 'handed over' | 'voted' | 'forced'

/** Who may run the machine of a parcel: versions that others make since are never taken silently. */
export interface Lease {
  /** Counts up. */
  number: number
  /** In hex; null: from here on nobody needs a lease. */
  holder: string | null
  /** The version that its holder goes on from; null: there was none. */
  version: Buffer | null
  origin: LeaseOrigin
}

/** A lease record: what its author says of who is to have a lease. */
export interface Claim {
  id: Buffer
  /** In hex. */
  author: string
  sequence: number
  number: number
  /** In hex. */
  holder: string
  version: Buffer
  isForced: boolean
}

const NOBODY = '0'.repeat(64)
/** Optional extension of a lease record: its author takes it although nobody has agreed. */
const FORCED = 1
/** Who counts of several that are good, first. */
const ORIGINS: readonly LeaseOrigin[] = ['begun', 'handed over', 'voted', 'forced']

export function forced(): Extension[] {
  return [{ tag: FORCED, critical: false, value: Buffer.alloc(0) }]
}

export function isForced(extensions: readonly Extension[]): boolean {
  return extensions.some(({ tag }) => tag === FORCED)
}

/** What stands in a record for a lease that nobody has, or for no version. */
export function orNothing(hex: string | null): Buffer {
  return Buffer.from(hex ?? NOBODY, 'hex')
}

/**
 * Hosts whose votes count, in hex, and how many make a majority: all that may make versions, and of two
 * the vault with the smallest key as their witness.
 */
export function electorate(roles: ReadonlyMap<string, MemberRole>): {
  voters: ReadonlySet<string>
  majority: number
} {
  const of = (...wanted: MemberRole[]): string[] =>
    [...roles].flatMap(([host, role]) => (wanted.includes(role) ? [host] : [])).toSorted()
  const voters = of('owner', 'runner')
  const [witness] = of('vault')
  if (voters.length === 2 && witness !== undefined) voters.push(witness)
  return { voters: new Set(voters), majority: Math.floor(voters.length / 2) + 1 }
}

/**
 * The lease that counts, which follows from the set of claims and of members alone. A lease with a greater
 * number than the last that counts does so itself if the holder of that one says so, if a majority does,
 * or if its holder forces it; the first one if anybody who may make versions says so. Numbers that nobody
 * got are left out. null: there is none.
 */
export function leaseOf(
  claims: readonly Claim[],
  roles: ReadonlyMap<string, MemberRole>
): Lease | null {
  const { voters, majority } = electorate(roles)
  const byNumber = grouped(firstWords(claims), ({ number }) => number)
  let lease: Lease | null = null
  for (const number of [...byNumber.keys()].toSorted((a, b) => a - b)) {
    const before: Lease | null = lease
    const candidates = [...grouped(byNumber.get(number) ?? [], ({ holder }) => holder)]
      .flatMap(([holder, said]) => {
        const [first] = said.toSorted((a, b) => Buffer.compare(a.id, b.id))
        const origin = originOf(said, holder, { before, voters, majority })
        return first === undefined || origin === null ? [] : [{ holder, origin, first }]
      })
      .toSorted(
        (a, b) =>
          ORIGINS.indexOf(a.origin) - ORIGINS.indexOf(b.origin) ||
          Buffer.compare(a.first.id, b.first.id)
      )
    const [best] = candidates
    if (best === undefined) continue
    const { holder, origin, first } = best
    lease = {
      number,
      holder: holder === NOBODY ? null : holder,
      version: first.version.equals(orNothing(null)) ? null : first.version,
      origin
    }
  }
  return lease
}

function originOf(
  said: readonly Claim[],
  holder: string,
  {
    before,
    voters,
    majority
  }: { before: Lease | null; voters: ReadonlySet<string>; majority: number }
): LeaseOrigin | null {
  const authors = new Set(said.map(({ author }) => author))
  if (before === null || before.holder === null) return 'begun'
  if (authors.has(before.holder)) return 'handed over'
  if ([...authors].filter((author) => voters.has(author)).length >= majority) return 'voted'
  return said.some((claim) => claim.isForced && claim.author === holder) ? 'forced' : null
}

/** Nobody has two words on one number: the first that a host wrote counts. */
function firstWords(claims: readonly Claim[]): Claim[] {
  const first = new Map<string, Claim>()
  for (const claim of claims) {
    const name = `${claim.author} ${claim.number}`
    const known = first.get(name)
    const by =
      known === undefined
        ? -1
        : claim.sequence - known.sequence || Buffer.compare(claim.id, known.id)
    if (by < 0) first.set(name, claim)
  }
  return [...first.values()]
}

function grouped<T, K>(items: readonly T[], keyOf: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>()
  for (const item of items) {
    const key = keyOf(item)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [item])
    else group.push(item)
  }
  return groups
}
