import { ParcelError } from '../errors.js'
import { encodeMetaRecord, type Moved, type Places, type Trace } from '../format/meta-record.js'
import {
  branchOf,
  decodeVersion,
  encodeVersion,
  type CoreHead,
  type Version
} from '../format/version.js'
import { keyedHash } from '../keys/hash.js'
import { verifySignature, type Identity } from '../keys/identity.js'
import { NS } from '../keys/namespaces.js'
import { isIdPrefix, isLabel } from '../names.js'
import type { Lease } from './members/leases.js'
import { Tags } from './tags.js'

export interface Known {
  id: Buffer
  version: Version
}

/** Where a record stands: in which `meta` core, and at which block. */
export interface Where {
  core: Buffer
  index: number
}

type At<T> = Where & { value: T }

/** Of one version a host says no more than so often something anew that is kept here. */
const MOST_SAID = 16
const NOWHERE: Where = { core: Buffer.alloc(0), index: 0 }

function put<T>(said: Map<string, At<T>[]>, key: string, one: At<T>): void {
  const all = said.get(key) ?? []
  said.set(key, all)
  all.push(one)
  // The first ones are those of before, should the later ones not count.
  if (all.length > MOST_SAID) all.splice(MOST_SAID / 2, 1)
}

/** Where the items of a version are, and the states of logs in which all of them are. */
export interface Placement {
  places: Places
  heads: readonly CoreHead[]
  /** Who says so, in hex. */
  host: string
}

/** How good logs are to read from, of several that hold the same. */
export type Standing = (heads: readonly CoreHead[]) => number

/** Whether a version of a host, in hex, counts that stands at an index of one of its cores. */
export type Counts = (author: string, core: Buffer, index: number) => boolean

/** All versions of a parcel that this host has heard of: a DAG over all hosts. */
export class History {
  /** Names that hosts gave to versions. */
  readonly tags: Tags
  readonly #parcel: Buffer
  /** Every version that was heard of, and where it stands; not all count. */
  readonly #heard = new Map<string, { known: Known; core: Buffer; index: number }>()
  /** By version: the `meta` cores in which its record stands, in hex. */
  readonly #stands = new Map<string, Set<string>>()
  readonly #counts: Counts
  readonly #standing: Standing
  readonly #versions = new Map<string, Known>()
  /** By version and host that said so; only its author's word is asked for. */
  readonly #places = new Map<string, At<Places>[]>()
  /** By version and host, like the places. */
  readonly #moved = new Map<string, At<Moved>[]>()
  /** By version, hosts that have moved it, in hex. */
  readonly #movers = new Map<string, Set<string>>()
  /** By version and host, like the places. */
  readonly #traces = new Map<string, At<Trace>[]>()
  /** What follows from all that by version, as long as nothing changes. */
  readonly #placements = new Map<string, readonly Placement[]>()
  #strays: ReadonlySet<string> = new Set()
  /** Changes with the versions and with what is said of where they are. */
  revision = 0
  #heads: Known[] | null = null
  #headsUnder: Lease | null = null
  readonly #lease: () => Lease | null
  /** In hex. */
  readonly #self: string
  /** What the lease goes on from, in hex, and how much was known then. */
  #settled: { lease: Lease; size: number; ids: ReadonlySet<string> } | null = null
  readonly #children = new Map<string, string[]>()

  constructor(
    parcel: Buffer,
    {
      counts = () => true,
      standing = () => 0,
      lease = () => null,
      self = ''
    }: {
      counts?: Counts
      standing?: Standing
      lease?: () => Lease | null
      /** In hex. */
      self?: string
    } = {}
  ) {
    this.#lease = lease
    this.#self = self
    this.#parcel = parcel
    this.#counts = counts
    this.#standing = standing
    this.tags = new Tags(counts)
  }

  /**
   * Takes in a version of `author` that stands at `index` of a `meta` core. Throws INTEGRITY for one
   * that is not, or not of this parcel.
   */
  addVersion(
    bytes: Buffer,
    signature: Buffer,
    author: Buffer,
    { core, index }: Where = NOWHERE
  ): Known {
    const version = decodeVersion(bytes)
    if (!version.author.equals(author)) throw refused('it is of another host')
    if (!version.parcel.equals(this.#parcel)) throw refused('it is of another parcel')
    if (!verifySignature(NS.versionSignature, bytes, signature, version.author)) {
      throw refused('its signature is wrong')
    }
    const known = { id: versionId(bytes), version }
    const name = known.id.toString('hex')
    this.#stands.set(name, (this.#stands.get(name) ?? new Set()).add(core.toString('hex')))
    const counts = this.#counts(author.toString('hex'), core, index)
    // It may stand in several logs of its author, and count in one of them.
    if (counts || !this.#heard.has(name)) this.#heard.set(name, { known, core, index })
    if (counts) this.#add(name, known)
    return known
  }

  /** Whether the record of a version stands in another log than one. */
  standsBeside(id: Buffer, core: Buffer): boolean {
    const cores = this.#stands.get(id.toString('hex')) ?? new Set()
    return [...cores].some((each) => each !== core.toString('hex'))
  }

  /** States of logs, as `stateName` has them, of pasts that do not count: what was in them is there no more. */
  get strays(): ReadonlySet<string> {
    return this.#strays
  }

  set strays(strays: ReadonlySet<string>) {
    const before = this.#strays
    if (strays.size === before.size && [...strays].every((name) => before.has(name))) return
    this.#strays = strays
    this.#placements.clear()
    this.revision++
  }

  /** Looks anew which versions count: who may write has changed. */
  judge(): void {
    this.#versions.clear()
    this.#placements.clear()
    this.revision++
    this.#children.clear()
    this.#heads = null
    this.tags.judge()
    for (const [name, { known, core, index }] of this.#heard) {
      if (this.#counts(known.version.author.toString('hex'), core, index)) this.#add(name, known)
    }
  }

  #add(name: string, known: Known): void {
    if (this.#versions.has(name)) return
    this.revision++
    this.#versions.set(name, known)
    this.#heads = null
    for (const parent of known.version.parents) {
      const key = parent.toString('hex')
      this.#children.set(key, [...(this.#children.get(key) ?? []), name])
    }
  }

  /** What a host says of where a version is; later places replace earlier ones. */
  addPlaces(places: Places, host: Buffer, where: Where = NOWHERE): void {
    this.#misplace(places.version)
    put(this.#places, placesKey(places.version, host), { value: places, ...where })
  }

  /** What a host says of where a version is now, whoever made it. */
  addMoved(moved: Moved, host: Buffer, where: Where = NOWHERE): void {
    const { version } = moved.places
    this.#misplace(version)
    put(this.#moved, placesKey(version, host), { value: moved, ...where })
    const movers = this.#movers.get(version.toString('hex')) ?? new Set()
    this.#movers.set(version.toString('hex'), movers.add(host.toString('hex')))
  }

  #misplace(version: Buffer): void {
    this.#placements.delete(version.toString('hex'))
    this.revision++
  }

  /** What a host says that a resume of a version wants first. */
  addTrace(trace: Trace, host: Buffer, where: Where = NOWHERE): void {
    put(this.#traces, placesKey(trace.version, host), { value: trace, ...where })
  }

  /** What a resume of a version wants first, in the words of who says where it is; null when nobody knows. */
  trace(id: Buffer): Trace | null {
    const version = this.get(id)?.version
    if (version === undefined) return null
    const { host = '' } = this.placement(id) ?? {}
    const [mover, author] = [Buffer.from(host, 'hex'), version.author]
    return this.#newest(this.#traces, id, mover) ?? this.#newest(this.#traces, id, author)
  }

  get(id: Buffer): Known | null {
    return this.#versions.get(id.toString('hex')) ?? null
  }

  /** Whether it is known where a version is: `places` does not throw. */
  isPlaced(id: Buffer): boolean {
    return this.placements(id).length > 0
  }

  /**
   * Where a version is, in words that count: what this host has moved, what its author has, and where it
   * was made. What others say of it leads nobody, who could say anything, but for a version that is in none
   * of these places any more: there is nothing to be led away from.
   */
  placements(id: Buffer): readonly Placement[] {
    const name = id.toString('hex')
    const known = this.#placements.get(name)
    if (known !== undefined) return known
    const version = this.#versions.get(name)?.version
    if (version === undefined) return []
    const found = this.#findPlacements(id, version)
    this.#placements.set(name, found)
    return found
  }

  #findPlacements(id: Buffer, version: Version): Placement[] {
    const author = version.author.toString('hex')
    const moved = (host: string): Placement[] => {
      const found = this.#newest(this.#moved, id, Buffer.from(host, 'hex'))
      return found === null ? [] : [{ places: found.places, heads: found.heads, host }]
    }
    const places = this.#newest(this.#places, id, version.author)
    const isGood = places !== null && areOf(version, places)
    const original = isGood ? [{ places, heads: version.cores, host: author }] : []
    const own = this.#self === author || this.#self === '' ? [] : moved(this.#self)
    const found = [...own, ...moved(author), ...original]
    const isLost = ({ heads }: Placement): boolean =>
      heads.some((head) => this.#strays.has(stateName(head)))
    if (this.#strays.size === 0 || found.length === 0 || !found.every(isLost)) return found
    const others = [...(this.#movers.get(id.toString('hex')) ?? [])].filter(
      (host) => host !== author && host !== this.#self
    )
    return [...found, ...others.flatMap(moved)]
  }

  /** The best of them; null when nobody has said where a version is. */
  placement(id: Buffer): Placement | null {
    return this.best(this.placements(id))
  }

  /** The best of some; null when there are none. */
  best([first, ...others]: readonly Placement[]): Placement | null {
    if (first === undefined) return null
    if (others.length === 0) return first
    let [best, standing] = [first, this.#standing(first.heads)]
    for (const other of others) {
      const each = this.#standing(other.heads)
      if (each > standing) [best, standing] = [other, each]
    }
    return best
  }

  /** The states of logs that a version is read from. */
  coresOf(id: Buffer): readonly CoreHead[] {
    return this.placement(id)?.heads ?? this.get(id)?.version.cores ?? []
  }

  /** The last word of an author that counts: what it says when it is shut out does not. */
  #newest<T>(said: ReadonlyMap<string, At<T>[]>, id: Buffer, author: Buffer): T | null {
    const all = said.get(placesKey(id, author)) ?? []
    const host = author.toString('hex')
    return all.findLast(({ core, index }) => this.#counts(host, core, index))?.value ?? null
  }

  /** Where the items of a version are. Throws UNREACHABLE, INTEGRITY. */
  places(id: Buffer): Places {
    const placement = this.placement(id)
    if (placement !== null) return placement.places
    const version = this.get(id)?.version
    if (version === undefined || this.#newest(this.#places, id, version.author) === null) {
      throw new ParcelError('UNREACHABLE', 'where this version is stored has not arrived yet')
    }
    throw new ParcelError(
      'INTEGRITY',
      'this version is damaged: its places name a log that it does not'
    )
  }

  /** All versions, in no order. */
  all(): Iterable<Known> {
    return this.#versions.values()
  }

  get size(): number {
    return this.#versions.size
  }

  /** Cores, in hex, that any version is in. */
  cores(): Set<string> {
    const named = new Set<string>()
    for (const { id, version } of this.all()) {
      for (const { key } of version.cores) named.add(key.toString('hex'))
      for (const { heads } of this.placements(id)) {
        for (const { key } of heads) named.add(key.toString('hex'))
      }
    }
    return named
  }

  isHead(id: Buffer): boolean {
    return this.heads().some((head) => head.id.equals(id))
  }

  /**
   * Versions that no other continues, newest first. More than one on a branch is a conflict. Of
   * several that are one and the same, as two hosts make that settle something alike at the same
   * time, one is a head, if none of them is continued.
   */
  heads(): Known[] {
    if (this.#heads !== null && this.#headsUnder === this.#lease()) return this.#heads
    const ends = [...this.all()].filter(({ id }) => !this.#children.has(id.toString('hex')))
    const found = ends.filter((end) => {
      const twins = this.#twins(end)
      return twins.every(
        ({ id }) => Buffer.compare(end.id, id) < 0 && ends.some((one) => one.id === id)
      )
    })
    this.#heads = [...found, ...this.#left()].toSorted((a, b) => byAge(b, a))
    this.#headsUnder = this.#lease()
    return this.#heads
  }

  /**
   * Whether a version was made by who did not have the lease: behind what the lease goes on from, by
   * another host than its holder, or under an earlier one.
   */
  isLapsed({ id, version }: Known): boolean {
    const lease = this.#lease()
    if (lease === null || lease.holder === null) return false
    if (version.leaseEpoch === lease.number && version.author.toString('hex') === lease.holder)
      return false
    return !this.#settledBy(lease).has(id.toString('hex'))
  }

  /** The version that a lease goes on from, and all that it continues. */
  #settledBy(lease: Lease): ReadonlySet<string> {
    if (this.#settled?.lease === lease && this.#settled.size === this.size) return this.#settled.ids
    const ids = this.#before(lease.heads)
    this.#settled = { lease, size: this.size, ids }
    return ids
  }

  /** What the lease goes on from, where only others did: nobody takes that for its continuation. */
  #left(): Known[] {
    const lease = this.#lease()
    if (lease === null || lease.holder === null) return []
    return lease.heads.flatMap((id) => {
      const from = this.get(id)
      return from !== null && this.#isLeft(from) ? [from] : []
    })
  }

  /** Whether all that continues a version, and there is something, was made without the lease. */
  #isLeft(from: Known): boolean {
    const children = (known: Known): Known[] =>
      (this.#children.get(known.id.toString('hex')) ?? []).flatMap(
        (name) => this.#versions.get(name) ?? []
      )
    const next = children(from)
    const isContinued = next.length > 0
    const seen = new Set(next)
    for (let one = next.pop(); one !== undefined; one = next.pop()) {
      if (!this.isLapsed(one)) return false
      for (const child of children(one)) {
        if (seen.has(child)) continue
        seen.add(child)
        next.push(child)
      }
    }
    return isContinued
  }

  /** Whether a version is one of some, or one that they continue. */
  isIn(id: Buffer, heads: readonly Buffer[]): boolean {
    return this.#before(heads).has(id.toString('hex'))
  }

  #before(heads: readonly Buffer[]): Set<string> {
    const ids = new Set<string>()
    const next = [...heads]
    for (let id = next.pop(); id !== undefined; id = next.pop()) {
      const name = id.toString('hex')
      if (ids.has(name)) continue
      ids.add(name)
      next.push(...(this.get(id)?.version.parents ?? []))
    }
    return ids
  }

  /** Other versions with the same parents, contents and branch. */
  #twins({ id, version }: Known): Known[] {
    const [parent] = version.parents
    if (parent === undefined) return []
    return (this.#children.get(parent.toString('hex')) ?? []).flatMap((name) => {
      const other = this.#versions.get(name)
      if (other === undefined || other.id.equals(id)) return []
      const { parents, table } = other.version
      const isTwin =
        isSame(table, version.table) &&
        branchName(other.version) === branchName(version) &&
        parents.length === version.parents.length &&
        parents.every((one, i) => one.equals(version.parents[i] ?? id))
      return isTwin ? [other] : []
    })
  }

  /** Heads by the name of their branch. */
  branches(): Map<string, Known[]> {
    const branches = new Map<string, Known[]>()
    for (const head of this.heads()) {
      const name = branchName(head.version)
      branches.set(name, [...(branches.get(name) ?? []), head])
    }
    return branches
  }

  /** Whether two hosts went on from one version and nobody has said what counts. */
  get isInConflict(): boolean {
    return [...this.branches().values()].some((heads) => heads.length > 1)
  }

  /**
   * The last version that only took a version over, as settling a conflict does: whoever has the
   * contents of the one has those of the other, and goes on from there.
   */
  continued(id: Buffer): Buffer {
    for (let known = this.get(id); known !== null;) {
      const { table } = known.version
      const copies = (this.#children.get(known.id.toString('hex')) ?? [])
        .map((name) => this.#versions.get(name))
        .filter((child) => child !== undefined && isSame(child.version.table, table))
        .filter((child) => child !== undefined && !this.isLapsed(child))
        .toSorted((a, b) => (a && b ? Buffer.compare(a.id, b.id) : 0))
      const next = copies[0]
      if (next === undefined) return known.id
      known = next
    }
    return id
  }

  /** All versions, children before parents, newest first where the DAG leaves it open. */
  list(): Known[] {
    const waiting = new Map<string, number>()
    for (const [name] of this.#versions) waiting.set(name, this.#children.get(name)?.length ?? 0)
    const ready = [...this.#versions.values()].filter(
      ({ id }) => waiting.get(id.toString('hex')) === 0
    )
    const ordered: Known[] = []
    while (ready.length > 0) {
      ready.sort(byAge)
      const next = ready.pop()
      if (next === undefined) break
      ordered.push(next)
      for (const parent of next.version.parents) {
        const name = parent.toString('hex')
        const left = (waiting.get(name) ?? 0) - 1
        waiting.set(name, left)
        const known = this.#versions.get(name)
        if (left === 0 && known !== undefined) ready.push(known)
      }
    }
    return ordered
  }

  /**
   * The version that has the tag `text`, is the head of the branch `text`, or whose id begins with
   * it. Throws UNKNOWN_VERSION, also when several do; CONFLICT for a branch with several heads.
   */
  resolve(text: string): Known {
    const tagged = isIdPrefix(text) ? null : this.tags.get(text)
    if (tagged !== null) {
      const known = this.get(tagged)
      if (known !== null) return known
      throw new ParcelError('UNKNOWN_VERSION', `the version that is called "${text}" is not here`)
    }
    const [head, ...others] = text === '' ? [] : (this.branches().get(text) ?? [])
    if (head !== undefined) {
      if (others.length === 0) return head
      throw new ParcelError('CONFLICT', `the branch "${text}" has ${others.length + 1} heads`)
    }
    const wanted = text.toLowerCase()
    const found = /^[0-9a-f]{4,64}$/.test(wanted)
      ? [...this.#versions].filter(([name]) => name.startsWith(wanted))
      : []
    const [first] = found
    if (first === undefined) {
      throw new ParcelError('UNKNOWN_VERSION', `no version "${text}" here: see 'hyperparcel log'`)
    }
    if (found.length > 1) {
      throw new ParcelError(
        'UNKNOWN_VERSION',
        `"${text}" fits ${found.length} versions: say more of it`
      )
    }
    return first[1]
  }
}

/** Signs a version; its id is the hash of its bytes. */
export function signVersion(
  identity: Identity,
  version: Version
): { id: Buffer; bytes: Buffer; signature: Buffer } {
  const bytes = encodeVersion(version)
  return { id: versionId(bytes), bytes, signature: identity.sign(NS.versionSignature, bytes) }
}

export function versionId(bytes: Buffer): Buffer {
  return keyedHash(NS.version, bytes)
}

/** By which it is seen that an author has said anew where a version is. */
export function placesHash(places: Places): Buffer {
  return keyedHash(NS.version, encodeMetaRecord({ type: 'places', places }))
}

/** By which a state of a log is known. */
export function stateName({ key, length, treeHash }: CoreHead): string {
  return `${key.toString('hex')} ${length} ${treeHash.toString('hex')}`
}

/** Whether places name no other logs than the version does. */
function areOf({ cores }: Version, places: Places): boolean {
  return places.cores.every((key) => cores.some((head) => head.key.equals(key)))
}

/** The branch that a version is on; what another host says that cannot be a name is none. */
export function branchName(version: Version): string {
  const name = branchOf(version)
  return isLabel(name) ? name : ''
}

function isSame(a: Version['table'], b: Version['table']): boolean {
  return (
    a.size === b.size &&
    (a.root === null || b.root === null ? a.root === b.root : a.root.equals(b.root))
  )
}

function placesKey(version: Buffer, host: Buffer): string {
  return `${version.toString('hex')} ${host.toString('hex')}`
}

function byAge(a: Known, b: Known): number {
  return a.version.created - b.version.created || Buffer.compare(a.id, b.id)
}

function refused(why: string): ParcelError {
  return new ParcelError('INTEGRITY', `refused a version record: ${why}`)
}
