import type { ControlBody, MemberRole } from '../../format/control-record.js'
import type { CoreHead } from '../../format/version.js'
import type { Signed } from './control.js'

/** What a member may do includes what those after it may. */
const RANK: readonly MemberRole[] = ['owner', 'runner', 'reader', 'vault']

/** An end of a host's membership. */
export interface Revoked {
  /** Id of the record that says so, in hex. */
  record: string
  /** Who said so, in hex. */
  by: string
  /** ms since 1970, as its author says. */
  created: number
  /** What the host wrote before these counts; what stands in no such core, or behind, does not. */
  cuts: readonly CoreHead[]
  /** What it was allowed until then. */
  role: MemberRole
}

/** A key epoch that somebody who may do that has begun. */
export interface Epoch {
  /** Id of its record, in hex. */
  record: string
  number: number
  /** Hosts, in hex, that were given its keys by the record. */
  sealed: ReadonlySet<string>
}

/** What a set of records says of who belongs to a parcel. */
export interface Members {
  /** By host, in hex. */
  roles: ReadonlyMap<string, MemberRole>
  /** Hosts, in hex, that were ever let in to make versions, whatever became of them. */
  writers: ReadonlySet<string>
  /** Hosts that were members and are no more, in hex. */
  revoked: ReadonlyMap<string, Revoked>
  /** Of hosts that are members again: how they ended before. */
  before: ReadonlyMap<string, Revoked>
  /** The newest; null while there is only that of the beginning. */
  epoch: Epoch | null
  /** Records, in hex, of all epochs that count. */
  epochs: ReadonlySet<string>
  /** Whether everyone who belongs to the parcel, and nobody else, was given the newest epoch's keys. */
  isEpochRight: boolean
}

/**
 * Records that act on membership: `genesis`, `member`, `revoke`, `epoch`. Each stands in the DAG
 * that the records of all hosts form.
 */
interface Act {
  id: string
  author: string
  body: ControlBody
  created: number
  /** Length of the longest way to it from the genesis. */
  depth: number
  /** Acts before it. */
  past: Bits
  /** Its own bit in others' pasts. */
  bit: number
  /** Whether it counts; null: that is not decided yet. */
  isAlive: boolean | null
}

interface Node {
  signed: Signed
  depth: number
  past: Bits
  act: Act | null
}

/**
 * Who is a member, from the signed records of all hosts: the same records give the same answer,
 * in whatever order they came. A record has effect once all that it follows is here.
 *
 * An act counts if, before it, an act that counts had made its author an owner, which no `revoke`
 * that counts had ended before it, and if no `revoke` of its author that counts stands beside it:
 * neither before nor behind. So a revocation beats all that its target did meanwhile, and all that
 * follows from that. Where acts would end each other in a circle, that of the more senior author
 * stands: of the one who was let in by the record with the shorter way to the genesis, or the
 * smaller id. A host is a member by a `member` record that counts, and behind which, or beside
 * which, no `revoke` of it does.
 */
export class Membership {
  readonly #parcel: string
  readonly #nodes = new Map<string, Node>()
  /** Records that wait for others that they follow, by one of those. */
  readonly #waiting = new Map<string, Signed[]>()
  /** All records that were taken in. */
  readonly #known = new Set<string>()
  readonly #acts: Act[] = []
  /** Records that nothing known follows, but for receipts. */
  readonly #heads = new Map<string, Buffer>()
  /** Receipts, in hex, that other records follow: what they follow is no head. */
  readonly #passed = new Set<string>()
  /** Ids, in hex, of what known records follow. */
  readonly #followed = new Set<string>()
  /** All that a record follows, where that was asked for. */
  readonly #pasts = new Map<string, ReadonlySet<string>>()
  #members: Members | null = null

  /** `parcel`: its id, which is that of its genesis. */
  constructor(parcel: Buffer) {
    this.#parcel = parcel.toString('hex')
  }

  /**
   * Ids of the records that have effect and that nothing here follows. Receipts are none: nothing is to hang
   * on what is not said again when its log goes.
   */
  get heads(): Buffer[] {
    return [...this.#heads.values()]
  }

  /** Whether a record, in hex, is needed for others to have effect. */
  isFollowed(id: string): boolean {
    return this.#followed.has(id)
  }

  /** Takes in a record that is signed and of this parcel. */
  add(signed: Signed): void {
    this.#known.add(signed.id.toString('hex'))
    for (const id of signed.record.parents) this.#followed.add(id.toString('hex'))
    const ready = [signed]
    for (let one = ready.pop(); one !== undefined; one = ready.pop()) {
      const missing = one.record.parents.find((id) => !this.#nodes.has(id.toString('hex')))
      if (missing !== undefined) {
        const name = missing.toString('hex')
        this.#waiting.set(name, [...(this.#waiting.get(name) ?? []), one])
        continue
      }
      const name = one.id.toString('hex')
      if (this.#nodes.has(name)) continue
      this.#place(name, one)
      ready.push(...(this.#waiting.get(name) ?? []))
      this.#waiting.delete(name)
    }
  }

  /** Ids of records that others follow and that are not here, at most so many. */
  missing(most: number): Buffer[] {
    // One that is here and waits itself is not missing.
    const names = [...this.#waiting.keys()].filter((name) => !this.#known.has(name))
    // Who makes up parents that nobody has must not stand before those that somebody has.
    for (let n = 0; n < Math.min(most, names.length); n++) {
      const other = n + Math.floor(Math.random() * (names.length - n))
      const [a = '', b = ''] = [names[n], names[other]]
      names[n] = b
      names[other] = a
    }
    return names.slice(0, most).map((name) => Buffer.from(name, 'hex'))
  }

  members(): Members {
    this.#members ??= this.#decide()
    return this.#members
  }

  /** Whether a record of a host counts that is no member any more: its revocation knew of it. */
  isBefore(record: Buffer, { record: revocation }: Revoked): boolean {
    return this.#before(revocation).has(record.toString('hex'))
  }

  /** All records that one follows. */
  #before(id: string): ReadonlySet<string> {
    const known = this.#pasts.get(id)
    if (known !== undefined) return known
    const found = new Set<string>()
    const look = [id]
    for (let at = look.pop(); at !== undefined; at = look.pop()) {
      for (const parent of this.#nodes.get(at)?.signed.record.parents ?? []) {
        const name = parent.toString('hex')
        if (found.has(name)) continue
        found.add(name)
        look.push(name)
      }
    }
    this.#pasts.set(id, found)
    return found
  }

  #place(name: string, signed: Signed): void {
    const { record, id } = signed
    const isReceipt = record.body.type === 'receipt'
    const past = new Bits()
    let depth = 0
    for (const parent of record.parents) {
      const node = this.#nodes.get(parent.toString('hex'))
      if (node === undefined) continue
      past.take(node.past)
      if (node.act !== null) past.add(node.act.bit)
      depth = Math.max(depth, node.depth + 1)
    }
    if (!isReceipt) this.#follow(record.parents)
    const act = this.#actOf(name, signed, past, depth)
    this.#nodes.set(name, { signed, depth, past, act })
    if (!isReceipt) this.#heads.set(name, id)
    if (act === null) return
    this.#acts.push(act)
    this.#members = null
  }

  /** No heads any more: what a record follows, also by way of receipts, as earlier software let it. */
  #follow(parents: readonly Buffer[]): void {
    const look = parents.map((id) => id.toString('hex'))
    for (let name = look.pop(); name !== undefined; name = look.pop()) {
      this.#heads.delete(name)
      const record = this.#nodes.get(name)?.signed.record
      if (record?.body.type !== 'receipt' || this.#passed.has(name)) continue
      this.#passed.add(name)
      look.push(...record.parents.map((id) => id.toString('hex')))
    }
  }

  #actOf(id: string, { record }: Signed, past: Bits, depth: number): Act | null {
    const { body, author, created } = record
    const isAct =
      body.type === 'genesis'
        ? id === this.#parcel
        : body.type === 'member' || body.type === 'revoke' || body.type === 'epoch'
    if (!isAct) return null
    const bit = this.#acts.length
    const by = author.toString('hex')
    return { id, author: by, body, created, depth, past, bit, isAlive: null }
  }

  #decide(): Members {
    const acts = this.#acts.toSorted((a, b) => a.depth - b.depth || (a.id < b.id ? -1 : 1))
    const of = new Decision(acts)
    of.decide()
    const roles = new Map<string, MemberRole>()
    const revoked = new Map<string, Revoked>()
    const before = new Map<string, Revoked>()
    for (const host of of.hosts()) {
      const [role] = of.standing(host)
      if (role !== undefined) roles.set(host, role)
      const end = of.end(host)
      if (end !== null) (role === undefined ? revoked : before).set(host, end)
    }
    const all = of.epochs()
    const [epoch = null] = all
    const epochs = new Set(all.map(({ record }) => record))
    const writers = of.writers()
    return {
      roles,
      writers,
      revoked,
      before,
      epoch,
      epochs,
      isEpochRight: of.isRight(epoch, roles)
    }
  }
}

/** Decides which acts count. */
class Decision {
  readonly #acts: readonly Act[]
  /** `member` records and the genesis, by whom they let in. */
  readonly #admissions = new Map<string, Act[]>()
  /** `revoke` records, by whom they end. */
  readonly #ends = new Map<string, Act[]>()

  /** Acts in an order in which each follows what it depends on, but for revocations beside it. */
  constructor(acts: readonly Act[]) {
    this.#acts = acts
    for (const act of acts) {
      act.isAlive = null
      const host = subject(act)
      if (host === null) continue
      const map = act.body.type === 'revoke' ? this.#ends : this.#admissions
      map.set(host, [...(map.get(host) ?? []), act])
    }
  }

  decide(): void {
    let left: readonly Act[] = this.#acts
    while (left.length > 0) {
      const before = left.length
      for (const act of left) act.isAlive = this.#judge(act)
      left = left.filter(({ isAlive }) => isAlive === null)
      if (left.length < before || left.length === 0) continue
      this.#choose(left).isAlive = true
      left = left.filter(({ isAlive }) => isAlive === null)
    }
  }

  /** Hosts that an act which counts has let in to make versions. */
  writers(): Set<string> {
    const writers = new Set<string>()
    for (const [host, acts] of this.#admissions) {
      const isWriter = acts.some((act) => {
        const role = roleOf(act)
        return isAlive(act) && (role === 'owner' || role === 'runner')
      })
      if (isWriter) writers.add(host)
    }
    return writers
  }

  hosts(): Iterable<string> {
    return this.#admissions.keys()
  }

  /** Roles by which a host is a member, highest first. */
  standing(host: string): MemberRole[] {
    const ends = this.#ends.get(host)?.filter(isAlive) ?? []
    return this.#roles(host, (act) => ends.every((end) => act.past.has(end.bit)))
  }

  /** What ended a host's membership last; null if nothing did, or it never was a member. */
  end(host: string): Revoked | null {
    const ends = this.#ends.get(host)?.filter(isAlive) ?? []
    // Of several, the one that knew least counts: what any of them ends has ended.
    const [last] = ends.toSorted((a, b) => b.depth - a.depth || (a.id < b.id ? -1 : 1))
    if (last?.body.type !== 'revoke') return null
    const earlier = ends.filter((end) => last.past.has(end.bit))
    const [role] = this.#roles(
      host,
      (act) => last.past.has(act.bit) && earlier.every((end) => act.past.has(end.bit))
    )
    if (role === undefined) return null
    const { id: record, author: by, created } = last
    return { record, by, created, cuts: last.body.cuts, role }
  }

  /** Those that count, the newest first. */
  epochs(): Epoch[] {
    const found: Epoch[] = []
    for (const { isAlive, body, id, past } of this.#acts) {
      if (isAlive !== true || body.type !== 'epoch') continue
      const { number, sealed } = body
      // One that skips numbers would be the last for ever.
      if (number > 1 + this.#newestBefore(past)) continue
      const hosts = sealed.map(({ host }) => host.toString('hex'))
      found.push({ record: id, number, sealed: new Set(hosts) })
    }
    return found.toSorted((a, b) => b.number - a.number || (a.record < b.record ? 1 : -1))
  }

  #newestBefore(past: Bits): number {
    let newest = 0
    for (const { body, bit } of this.#acts) {
      if (body.type === 'epoch' && past.has(bit)) newest = Math.max(newest, body.number)
    }
    return newest
  }

  /**
   * Whether the members, and they alone, have the keys of an epoch: they stand in its record, or
   * were let in behind it, by someone who gave it to them.
   */
  isRight(epoch: Epoch | null, roles: ReadonlyMap<string, MemberRole>): boolean {
    const act = this.#acts.find(({ id }) => id === epoch?.record)
    for (const [host, admissions] of this.#admissions) {
      const isGiven =
        (epoch?.sealed.has(host) ?? false) ||
        admissions.some(
          (one) => one.isAlive === true && (act === undefined || one.past.has(act.bit))
        )
      if (isGiven !== roles.has(host)) return false
    }
    return true
  }

  #roles(host: string, isMeant: (act: Act) => boolean): MemberRole[] {
    const found = this.#admissions.get(host)?.filter((act) => isAlive(act) && isMeant(act)) ?? []
    return found.map(roleOf).toSorted((a, b) => RANK.indexOf(a) - RANK.indexOf(b))
  }

  /** null: not to be said yet. */
  #judge(act: Act): boolean | null {
    if (act.body.type === 'genesis') return true
    const bases = this.#bases(act)
    const standing = bases.map((base) => this.#isBasis(base, act))
    if (!standing.some((each) => each !== false)) return false
    const beside = this.#beside(act)
    if (beside.some(isAlive)) return false
    if (!standing.includes(true)) return null
    return beside.every((each) => each.isAlive === false) ? true : null
  }

  /** What may have made its author an owner before an act. */
  #bases(act: Act): Act[] {
    const all = this.#admissions.get(act.author) ?? []
    return all.filter(
      (base) => base.isAlive !== false && roleOf(base) === 'owner' && act.past.has(base.bit)
    )
  }

  #isBasis(base: Act, act: Act): boolean | null {
    if (base.isAlive === false) return false
    const ends = (this.#ends.get(act.author) ?? []).filter(
      (end) => act.past.has(end.bit) && !base.past.has(end.bit)
    )
    if (ends.some(isAlive)) return false
    return base.isAlive === true && ends.every((each) => each.isAlive === false) ? true : null
  }

  /** Revocations of its author that neither know of an act nor were known to it. */
  #beside(act: Act): Act[] {
    const ends = this.#ends.get(act.author) ?? []
    return ends.filter((end) => end !== act && !act.past.has(end.bit) && !end.past.has(act.bit))
  }

  /** Of acts that wait for each other in circles: the one that stands. */
  #choose(left: readonly Act[]): Act {
    const waits = new Map(left.map((act) => [act, this.#waitsFor(act)]))
    const circle = innermost(left, (act) => waits.get(act) ?? [])
    const able = circle.filter((act) => this.#bases(act).some((base) => this.#isBasis(base, act)))
    const [first] = (able.length > 0 ? able : circle).toSorted(
      (a, b) => this.#compareSeniority(a, b) || (a.id < b.id ? -1 : 1)
    )
    if (first === undefined) throw new Error('a circle of none')
    return first
  }

  #waitsFor(act: Act): Act[] {
    const bases = this.#bases(act)
    const ends = (this.#ends.get(act.author) ?? []).filter((end) => act.past.has(end.bit))
    return [...bases, ...ends, ...this.#beside(act)].filter(({ isAlive }) => isAlive === null)
  }

  #compareSeniority(a: Act, b: Act): number {
    const [x, y] = [this.#seniority(a), this.#seniority(b)]
    return x.depth - y.depth || (x.id === y.id ? 0 : x.id < y.id ? -1 : 1)
  }

  /** The record that its author has been an owner by, for the longest. */
  #seniority(act: Act): Act {
    const bases = this.#bases(act)
    const able = bases.filter((base) => this.#isBasis(base, act) !== false)
    const from = able.length > 0 ? able : bases
    return from.reduce(
      (first, each) =>
        each.depth < first.depth || (each.depth === first.depth && each.id < first.id)
          ? each
          : first,
      from[0] ?? act
    )
  }
}

/** Acts that wait for nothing but each other. */
function innermost(acts: readonly Act[], waitsFor: (act: Act) => readonly Act[]): Act[] {
  const reach = (from: Act): Set<Act> => {
    const found = new Set<Act>()
    const look = [from]
    for (let at = look.pop(); at !== undefined; at = look.pop()) {
      for (const next of waitsFor(at)) {
        if (found.has(next)) continue
        found.add(next)
        look.push(next)
      }
    }
    return found
  }
  // From any act on, the set that can be reached shrinks until all in it reach each other.
  let [at] = acts
  if (at === undefined) return []
  for (;;) {
    const within: Set<Act> = reach(at)
    const here: Act = at
    const deeper = [...within].find((each) => !reach(each).has(here))
    if (deeper === undefined) return within.size === 0 ? [at] : [...within]
    at = deeper
  }
}

/** Whom an act is about, in hex. */
function subject({ body, author }: Act): string | null {
  if (body.type === 'genesis') return author
  return body.type === 'member' || body.type === 'revoke' ? body.host.toString('hex') : null
}

function roleOf({ body }: Act): MemberRole {
  return body.type === 'member' ? body.role : 'owner'
}

function isAlive({ isAlive }: Act): boolean {
  return isAlive === true
}

/** A set of small numbers. */
class Bits {
  #words = new Uint32Array(0)

  has(bit: number): boolean {
    return ((this.#words[bit >>> 5] ?? 0) & (1 << (bit & 31))) !== 0
  }

  add(bit: number): void {
    this.#grow((bit >>> 5) + 1)
    this.#words[bit >>> 5] = (this.#words[bit >>> 5] ?? 0) | (1 << (bit & 31))
  }

  take(other: Bits): void {
    this.#grow(other.#words.length)
    for (const [n, word] of other.#words.entries()) this.#words[n] = (this.#words[n] ?? 0) | word
  }

  #grow(length: number): void {
    if (length <= this.#words.length) return
    const words = new Uint32Array(length)
    words.set(this.#words)
    this.#words = words
  }
}
