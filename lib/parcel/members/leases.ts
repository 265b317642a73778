import type { MemberRole } from '../../format/control-record.js'
import type { LeaseDetails } from '../../format/lease.js'

/** How a lease came about. */
export type LeaseOrigin = 'begun' | 'handed over' | 'voted' | 'forced'

/** Who may run the machine of a parcel: versions that others make since are never taken silently. */
export interface Lease {
  /** Counts up. */
  number: number
  /** In hex; null: from here on nobody needs a lease. */
  holder: string | null
  /** Versions that its holder goes on from: one for each branch. */
  heads: readonly Buffer[]
  origin: LeaseOrigin
}

/** A lease record: what its author says of who is to have a lease. */
export interface Claim extends LeaseDetails {
  id: Buffer
  /** In hex. */
  author: string
  sequence: number
  number: number
  /** In hex. */
  holder: string
  version: Buffer
}

const NOBODY = '0'.repeat(64)
/** Numbers may be left out, but not so many: nobody can use them up. */
export const LEASE_SPAN = 1_024
/** Who counts of several that are good, first. */
const ORIGINS: readonly LeaseOrigin[] = ['begun', 'handed over', 'voted', 'forced']

/** What stands in a record for a lease that nobody has, or for no version. */
export function orNothing(hex: string | null): Buffer {
  return Buffer.from(hex ?? NOBODY, 'hex')
}

/**
 * Hosts that have a vote, in hex, ascending, and how many make a majority: all that may make versions, and
 * of two the vault with the smallest key as their witness.
 */
export function electorate(roles: ReadonlyMap<string, MemberRole>): {
  voters: readonly string[]
  majority: number
} {
  const of = (...wanted: MemberRole[]): string[] =>
    [...roles].flatMap(([host, role]) => (wanted.includes(role) ? [host] : [])).toSorted()
  const voters = of('owner', 'runner')
  const [witness] = of('vault')
  if (voters.length === 2 && witness !== undefined) voters.push(witness)
  return { voters: voters.toSorted(), majority: majorityOf(voters.length) }
}

function majorityOf(count: number): number {
  return Math.floor(count / 2) + 1
}

/**
 * The leases that count, one after the other, which follows from the set of claims alone; `writers`, in
 * hex, were ever let in to make versions. Each number is one host's at most: whose the holder before says
 * it is; else whose a majority of those says it is that the votes themselves name, the holder before among
 * them; else whose own record forces it. The first, and one after an end, anybody may begin. Votes name who
 * has one, so that what was decided stays so when members come and go; they protect from accidents, not from
 * hosts that lie: any writer may force a lease, and everybody sees that.
 */
export function leasesOf(claims: readonly Claim[], writers: ReadonlySet<string>): Lease[] {
  const byNumber = grouped(firstWords(claims), ({ number }) => number)
  const leases: Lease[] = []
  for (const number of [...byNumber.keys()].toSorted((a, b) => a - b)) {
    const before = leases.at(-1) ?? null
    if (number < 1 || number > (before?.number ?? 0) + LEASE_SPAN) continue
    const [best] = [...grouped(byNumber.get(number) ?? [], ({ holder }) => holder)]
      .filter(([holder]) => holder === NOBODY || writers.has(holder))
      .flatMap(([holder, said]) => decisive(said, holder, { before, writers }) ?? [])
      .toSorted(
        (a, b) =>
          ORIGINS.indexOf(a.origin) - ORIGINS.indexOf(b.origin) ||
          Buffer.compare(a.claim.id, b.claim.id)
      )
    if (best === undefined) continue
    const { claim, origin } = best
    const heads = [claim.version, ...claim.heads].filter((id) => !id.equals(orNothing(null)))
    const holder = claim.holder === NOBODY ? null : claim.holder
    leases.push({ number, holder, heads, origin })
  }
  return leases
}

/** By which of some claims a number is a host's; null: by none. */
function decisive(
  said: readonly Claim[],
  holder: string,
  { before, writers }: { before: Lease | null; writers: ReadonlySet<string> }
): { claim: Claim; origin: LeaseOrigin } | null {
  const sorted = said.toSorted((a, b) => Buffer.compare(a.id, b.id))
  const own = sorted.find(({ author }) => author === holder)
  const previous = before?.holder ?? null
  if (previous === null) {
    const claim = own ?? sorted.find(({ author }) => writers.has(author))
    return claim === undefined || !writers.has(claim.author) ? null : { claim, origin: 'begun' }
  }
  const handed = sorted.find(({ author }) => author === previous)
  if (handed !== undefined) return { claim: handed, origin: 'handed over' }
  for (const votes of grouped(sorted, ballotOf).values()) {
    const [claim] = votes
    const voters = claim?.voters.map((key) => key.toString('hex')) ?? []
    const count = votes.filter(({ author }) => voters.includes(author)).length
    const isGood = voters.includes(previous) && voters.includes(holder)
    if (claim !== undefined && isGood && count >= majorityOf(voters.length)) {
      return { claim, origin: 'voted' }
    }
  }
  return own?.isForced === true ? { claim: own, origin: 'forced' } : null
}

/** Votes are for the same only if they say the same. */
function ballotOf({ version, heads, voters }: Claim): string {
  return [version, ...heads, orNothing(null), ...voters].map((key) => key.toString('hex')).join()
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
