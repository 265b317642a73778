import { ParcelError } from '../../errors.js'
import {
  decodeControlRecord,
  encodeControlRecord,
  type ControlBody,
  type ControlRecord,
  type Incarnation,
  type MemberRole
} from '../../format/control-record.js'
import { decodeAnnouncements, encodeAnnouncements, type SignedRecord } from '../../format/wire.js'
import { keyedHash } from '../../keys/hash.js'
import { verifySignature, type Identity } from '../../keys/identity.js'
import { NS } from '../../keys/namespaces.js'
import { leaseDetails } from '../../format/lease.js'
import { Leases } from './lease-claims.js'
import { Membership, type Members } from './membership.js'
import { Receipts } from './receipts.js'

export interface Signed extends SignedRecord {
  id: Buffer
  record: ControlRecord
}

export interface Announced {
  host: Buffer
  incarnation: Incarnation
  signed: SignedRecord
}

/** A `data` core that a host had announced in place of those that it has now. */
export interface FormerData {
  host: Buffer
  key: Buffer
}

/** The logs that a host writes now: those that it announced last. */
interface Current {
  /** `control`, in hex. */
  core: string
  /** `data`, in hex. */
  data: ReadonlySet<string>
  created: number
  id: Buffer
}

export interface Drop {
  /** Of its record. */
  id: Buffer
  /** In hex. */
  author: string
  ranges: readonly { start: number; end: number }[]
}

/** What the writer of a log says of its two pasts. */
export type Fork = Extract<ControlBody, { type: 'forked' }> & {
  id: Buffer
  /** In hex. */
  author: string
  sequence: number
}

/** An honest host has no more pasts of one log than this, and some. */
const MOST_FORKS = 16

/** Whether what is said of a log can be so. */
function isFork({ core, start, head, repeated }: Fork): boolean {
  return head.key.equals(core) && start <= head.length && repeated.length > 0
}

/**
 * The signed records of a parcel's `control` logs, from all hosts. What follows from them (who is a
 * member, which cores are whose, who holds what) depends on the set of records alone, not on the
 * order in which they came.
 */
export class Control {
  readonly parcel: Buffer
  readonly inviter: string | null
  readonly receipts: Receipts
  readonly leases: Leases
  readonly #records = new Map<string, Signed>()
  readonly #membership: Membership
  readonly #counts = new Map<string, number>()
  /** By host, in hex. */
  readonly #current = new Map<string, Current>()
  /** By host and `control` core, in hex: sequence of the first record in which its host announced it. */
  readonly #begun = new Map<string, number>()
  /** By core, in hex. */
  readonly #drops = new Map<string, Drop[]>()
  /** By record: the `control` cores in which it stands, in hex. */
  readonly #stands = new Map<string, Set<string>>()
  /** By core, in hex. */
  readonly #forks = new Map<string, Fork[]>()
  readonly #epochs: Signed[] = []
  /** By host, in hex: the newest `recovery` record of each. */
  readonly #recoveries = new Map<string, Signed>()
  /** Announcements of hosts that were no members when they came. */
  readonly #early = new Map<string, SignedRecord>()
  #incarnations: { current: Announced[]; formerData: FormerData[] } | null = null

  /** `inviter`: whoever let this host in, in hex; null for a parcel of its own. */
  constructor(parcel: Buffer, inviter: string | null = null) {
    this.parcel = parcel
    this.inviter = inviter
    this.#membership = new Membership(parcel)
    this.receipts = new Receipts({
      isMember: (host) => this.members.roles.has(host),
      currentOf: (host) => {
        const core = this.#current.get(host)?.core
        return core === undefined ? null : { core, begun: this.#begun.get(`${host} ${core}`) ?? 0 }
      }
    })
    this.leases = new Leases({
      members: () => this.members,
      counts: (claim) => this.countsDrop(claim)
    })
  }

  /**
   * Records that nothing known here follows, the parents of the next one; at most so many, of whom
   * membership depends on first.
   */
  parents(most: number): Buffer[] {
    const { heads } = this.#membership
    if (heads.length <= most) return heads
    const { roles } = this.members
    const rank = (id: Buffer): number => {
      const author = this.#records.get(id.toString('hex'))?.record.author.toString('hex') ?? ''
      const role = roles.get(author)
      return role === undefined ? 9 : ['owner', 'runner', 'vault', 'reader'].indexOf(role)
    }
    const ranked = heads.map((id) => ({ id, by: rank(id) })).toSorted((a, b) => a.by - b.by)
    return ranked.slice(0, most).map(({ id }) => id)
  }

  /** How many records an author has written; the next one's sequence. */
  count(author: Buffer): number {
    return this.#counts.get(author.toString('hex')) ?? 0
  }

  /**
   * Takes a record in; false if it was known. `core`: the log of whoever in which it stands. Throws
   * INTEGRITY when it is not what it says.
   */
  add(signed: SignedRecord, core: Buffer | null = null): boolean {
    const verified = verify(signed)
    const { record, id } = verified
    const isGenesis = record.body.type === 'genesis'
    if (!(isGenesis ? id : record.parcel).equals(this.parcel)) {
      throw new ParcelError('INTEGRITY', 'refused a control record of another parcel')
    }
    const name = id.toString('hex')
    if (core !== null) {
      this.#stands.set(name, (this.#stands.get(name) ?? new Set()).add(core.toString('hex')))
    }
    if (record.body.type === 'receipt') this.receipts.add(verified, core)
    if (this.#records.has(name)) return false
    this.#records.set(name, verified)
    this.#membership.add(verified)
    this.#incarnations = null
    const author = record.author.toString('hex')
    this.#counts.set(author, Math.max(this.#counts.get(author) ?? 0, record.sequence + 1))
    if (record.body.type === 'cores') {
      const { created } = record
      const known = this.#current.get(author)
      const by = created - (known?.created ?? -1) || Buffer.compare(id, known?.id ?? id)
      const { control, data } = record.body.incarnation
      const core = control.toString('hex')
      if (by > 0) {
        const cores = new Set(data.map((key) => key.toString('hex')))
        this.#current.set(author, { core, data: cores, created, id })
      }
      const name = `${author} ${core}`
      this.#begun.set(name, Math.min(this.#begun.get(name) ?? Infinity, record.sequence))
    }
    if (record.body.type === 'drop') {
      const core = record.body.core.toString('hex')
      const drops = this.#drops.get(core) ?? []
      this.#drops.set(core, [...drops, { id, author, ranges: record.body.ranges }])
    }
    if (record.body.type === 'pin' && !record.body.pinned) {
      this.receipts.letGo(record.body.version, author, record.sequence)
    }
    if (record.body.type === 'forked') {
      const core = record.body.core.toString('hex')
      const fork = { ...record.body, id, author, sequence: record.sequence }
      this.#forks.set(core, [...(this.#forks.get(core) ?? []), fork])
    }
    if (record.body.type === 'epoch') this.#epochs.push(verified)
    if (record.body.type === 'lease') {
      const { number, holder, version } = record.body
      const { sequence, extensions } = record
      const details = leaseDetails(extensions)
      this.leases.add({
        ...details,
        id,
        author,
        sequence,
        number,
        holder: holder.toString('hex'),
        version
      })
    }
    if (record.body.type === 'recovery' && isLater(verified, this.#recoveries.get(author))) {
      this.#recoveries.set(author, verified)
    }
    return true
  }

  /**
   * Takes in a record that a peer passed on: only a member's `cores` record is of use. One of a host
   * that is no member is kept for a while: what makes it one may be on its way.
   */
  addAnnouncement(signed: SignedRecord): boolean {
    const { body, author } = decodeControlRecord(signed.bytes)
    if (body.type !== 'cores') return false
    if (this.isMember(author)) return this.add(signed)
    const name = signed.signature.toString('hex')
    if (this.#early.size < MAX_EARLY) this.#early.set(name, signed)
    return false
  }

  /** Takes in what was passed on of hosts that are members by now. Whether there was any. */
  addEarly(): boolean {
    let isNew = false
    for (const [name, signed] of this.#early) {
      if (!this.isMember(decodeControlRecord(signed.bytes).author)) continue
      this.#early.delete(name)
      isNew = this.add(signed) || isNew
    }
    return isNew
  }

  /** Ids of records that others follow and that are not here, at most so many. */
  missing(most: number): Buffer[] {
    return this.#membership.missing(most)
  }

  /** In hex. */
  idOf({ bytes }: SignedRecord): string {
    return keyedHash(NS.control, bytes).toString('hex')
  }

  /** null: it is not here. */
  get(id: Buffer): SignedRecord | null {
    return this.#records.get(id.toString('hex')) ?? null
  }

  /** What brings a host, in hex, back; null when it has said nothing. */
  recovery(host: string): { topic: Buffer; signed: SignedRecord } | null {
    const found = this.#recoveries.get(host)
    if (found?.record.body.type !== 'recovery') return null
    const { bytes, signature } = found
    return { topic: found.record.body.topic, signed: { bytes, signature } }
  }

  /** Who belongs to the parcel, who does no more, and the key epoch. */
  get members(): Members {
    return this.#membership.members()
  }

  isMember(host: Buffer): boolean {
    return this.members.roles.has(host.toString('hex'))
  }

  /**
   * A host that has just joined does not know who is a member: not before it has read of whoever let it
   * in. It may have been a member before, and then reads of itself first.
   */
  get isBlank(): boolean {
    const { roles, revoked } = this.members
    if (roles.size === 0 && revoked.size === 0) return true
    return this.inviter !== null && !roles.has(this.inviter) && !revoked.has(this.inviter)
  }

  /** All records of key epochs, of whoever: which of them count, `members` says. */
  epochs(): readonly Signed[] {
    return this.#epochs
  }

  /**
   * The cores that members announced, of each incarnation as last announced, and hosts that were members before they were no more. A host
   * that has just joined takes the announcement that came with its invite, the only record it has.
   */
  incarnations(): readonly Announced[] {
    this.#incarnations ??= this.#findIncarnations()
    return this.#incarnations.current
  }

  /** Hosts that have said that a `data` log is their own. */
  announcersOf(core: Buffer): Buffer[] {
    const now = this.incarnations().flatMap(({ host, incarnation }) =>
      incarnation.data.some((key) => key.equals(core)) ? [host] : []
    )
    const before = this.formerData().flatMap(({ host, key }) => (key.equals(core) ? [host] : []))
    return [...now, ...before]
  }

  /** `data` cores that were announced in them before: what is still needed of them versions name. */
  formerData(): readonly FormerData[] {
    this.#incarnations ??= this.#findIncarnations()
    return this.#incarnations.formerData
  }

  /** When a host announced the logs that it writes now, ms since 1970; -1: never. */
  lastAnnounced(host: string): number {
    return this.#current.get(host)?.created ?? -1
  }

  /** The `data` cores that a host, in hex, writes now, in hex. */
  currentData(host: string): ReadonlySet<string> {
    return this.#current.get(host)?.data ?? new Set()
  }

  /** Records of an author that others build on, for a log that takes the place of one that is damaged. */
  ownRecords(author: Buffer): SignedRecord[] {
    return [...this.#records]
      .filter(([id, { record }]) => record.author.equals(author) && !this.#isLoose(id))
      .toSorted(([, a], [, b]) => a.record.sequence - b.record.sequence)
      .map(([, { bytes, signature }]) => ({ bytes, signature }))
  }

  /** Of a log, by its key in hex, which past counts, in the last word of its writer; null: it has only one. */
  fork(core: string, writer: string): Fork | null {
    const said = this.forks(core, writer)
    return said.length > MOST_FORKS ? null : (said.at(-1) ?? null)
  }

  /** All that its writer has said of the pasts of a log, in hex, in that order. */
  forks(core: string, writer: string): readonly Fork[] {
    return (this.#forks.get(core) ?? [])
      .filter((fork) => fork.author === writer && this.countsDrop(fork) && isFork(fork))
      .toSorted((a, b) => a.sequence - b.sequence)
  }

  /** Whether a record stands in another log than one, or says nothing that would be missed. */
  standsBeside(signed: SignedRecord, core: Buffer): boolean {
    const name = this.idOf(signed)
    if (this.#isLoose(name)) return true
    return [...(this.#stands.get(name) ?? [])].some((each) => each !== core.toString('hex'))
  }

  /** Records of whoever that stand in a log, but for receipts: what was held may not be there any more. */
  recordsIn(core: Buffer): SignedRecord[] {
    const name = core.toString('hex')
    return [...this.#records]
      .filter(([id]) => this.#stands.get(id)?.has(name) === true && !this.#isLoose(id))
      .map(([, { bytes, signature }]) => ({ bytes, signature }))
  }

  /** Whether nothing is lost with a record, in hex: a receipt that none follows, as earlier software let them. */
  #isLoose(id: string): boolean {
    const { type } = this.#records.get(id)?.record.body ?? {}
    return type === 'receipt' && !this.#membership.isFollowed(id)
  }

  /** Logs, in hex, of which somebody says that they have two pasts. */
  get forkedCores(): Iterable<string> {
    return this.#forks.keys()
  }

  /** Who said which blocks of a core, in hex, are not needed any more; it only ever grows. */
  drops(core: string): readonly Drop[] {
    return this.#drops.get(core) ?? []
  }

  /**
   * Whether a version that stands at `index` of a `meta` core counts: its author may write, or was
   * allowed to until a revocation that knew of it.
   */
  countsVersion(author: string, core: Buffer, index: number): boolean {
    if (this.isBlank) return true
    const { roles, revoked, before } = this.members
    const role = roles.get(author)
    if (role !== undefined && mayWrite(role)) return true
    // What it made while it might write stays, also when it was let in again as something less.
    const end = role === undefined ? revoked.get(author) : before.get(author)
    if (end === undefined || !mayWrite(end.role)) return false
    return end.cuts.some((cut) => cut.key.equals(core) && index < cut.length)
  }

  /** Whether a drop is the word of a host that belongs to the parcel, or did when it said so. */
  countsDrop({ id, author }: Pick<Drop, 'id' | 'author'>): boolean {
    const { roles, revoked } = this.members
    const end = revoked.get(author)
    return roles.has(author) || (end !== undefined && this.#membership.isBefore(id, end))
  }

  #findIncarnations(): { current: Announced[]; formerData: FormerData[] } {
    const { isBlank } = this
    const { revoked } = this.members
    const found = new Map<string, Announced & { created: number }>()
    const data = new Map<string, FormerData>()
    for (const { record, bytes, signature, id } of this.#records.values()) {
      if (record.body.type !== 'cores') continue
      const host = record.author
      const end = revoked.get(host.toString('hex'))
      const counts =
        isBlank || this.isMember(host) || (end !== undefined && this.#membership.isBefore(id, end))
      if (!counts) continue
      const { incarnation } = record.body
      const { created } = record
      for (const key of incarnation.data) {
        data.set(`${host.toString('hex')} ${key.toString('hex')}`, { host, key })
      }
      const name = `${host.toString('hex')} ${incarnation.id.toString('hex')}`
      const known = found.get(name)
      if (known !== undefined && known.created > created) continue
      found.set(name, { host, incarnation, signed: { bytes, signature }, created })
    }
    const current = [...found.values()]
    for (const { host, incarnation } of current) {
      for (const key of incarnation.data) {
        data.delete(`${host.toString('hex')} ${key.toString('hex')}`)
      }
    }
    return { current, formerData: [...data.values()] }
  }
}

const MAX_EARLY = 1_024

/** Of two records of one host; the id decides between equals, so that all agree. */
function isLater({ record, id }: Signed, than: Signed | undefined): boolean {
  if (than === undefined) return true
  const by = record.epoch - than.record.epoch || record.created - than.record.created
  return by === 0 ? Buffer.compare(id, than.id) > 0 : by > 0
}

/** Whose record it is, in hex, as it says itself. */
export function authorOf({ bytes }: SignedRecord): string {
  return decodeControlRecord(bytes).author.toString('hex')
}

/** Whether a role makes versions. */
export function mayWrite(role: MemberRole): boolean {
  return role === 'owner' || role === 'runner'
}

/** Signs a record. Its id is the hash of its bytes. */
export function signControl(
  identity: Identity,
  fields: Omit<ControlRecord, 'author' | 'extensions'> & Partial<Pick<ControlRecord, 'extensions'>>
): Signed {
  const { extensions = [] } = fields
  const record = { ...fields, author: identity.publicKey, extensions }
  const bytes = encodeControlRecord(record)
  const signature = identity.sign(NS.controlSignature, bytes)
  return { record, bytes, signature, id: keyedHash(NS.control, bytes) }
}

/** The first record of a new parcel; its id is the parcel's. */
export function signGenesis(identity: Identity, salt: Buffer, created: number): Signed {
  const body: ControlBody = { type: 'genesis', salt }
  const parcel = Buffer.alloc(32)
  return signControl(identity, { parcel, sequence: 0, epoch: 0, parents: [], created, body })
}

/** A block of a control log. */
export function encodeSigned({ bytes, signature }: SignedRecord): Buffer {
  return encodeAnnouncements([{ bytes, signature }])
}

export function decodeSigned(block: Buffer): SignedRecord {
  const [record] = decodeAnnouncements(block)
  if (record === undefined) throw new ParcelError('INTEGRITY', 'an empty control record')
  return record
}

/** Throws INTEGRITY when a record is not its author's. */
export function verify({ bytes, signature }: SignedRecord): Signed {
  const record = decodeControlRecord(bytes)
  if (!verifySignature(NS.controlSignature, bytes, signature, record.author)) {
    throw new ParcelError('INTEGRITY', 'refused a control record with a wrong signature')
  }
  return { record, bytes, signature, id: keyedHash(NS.control, bytes) }
}
