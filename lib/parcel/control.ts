import { ParcelError } from '../errors.js'
import {
  decodeControlRecord,
  encodeControlRecord,
  type ControlBody,
  type ControlRecord,
  type Incarnation,
  type MemberRole
} from '../format/control-record.js'
import { decodeAnnouncements, encodeAnnouncements, type SignedRecord } from '../format/wire.js'
import { keyedHash } from '../keys/hash.js'
import { verifySignature, type Identity } from '../keys/identity.js'
import { NS } from '../keys/namespaces.js'

export interface Signed extends SignedRecord {
  id: Buffer
  record: ControlRecord
}

export interface Announced {
  host: Buffer
  incarnation: Incarnation
  signed: SignedRecord
}

export interface Drop {
  /** In hex. */
  author: string
  ranges: readonly { start: number; end: number }[]
}

/**
 * The signed records of a parcel's `control` logs, from all hosts, as one DAG. What follows from
 * them (who is a member, which cores are whose, who holds what) depends on the set of records
 * alone, not on the order in which they came.
 */
export class Control {
  readonly parcel: Buffer
  readonly #records = new Map<string, Signed>()
  readonly #heads = new Map<string, Buffer>()
  readonly #referred = new Set<string>()
  readonly #counts = new Map<string, number>()
  /** Authors of receipts, by version. */
  readonly #receipts = new Map<string, Set<string>>()
  /** By core, in hex. */
  readonly #drops = new Map<string, Drop[]>()
  #members: Map<string, MemberRole> | null = null
  #incarnations: Announced[] | null = null

  constructor(parcel: Buffer) {
    this.parcel = parcel
  }

  get heads(): Buffer[] {
    return [...this.#heads.values()]
  }

  /** How many records an author has written; the next one's sequence. */
  count(author: Buffer): number {
    return this.#counts.get(author.toString('hex')) ?? 0
  }

  /** Takes a record in; false if it was known. Throws INTEGRITY when it is not what it says. */
  add(signed: SignedRecord): boolean {
    const verified = verify(signed)
    const { record, id } = verified
    const isGenesis = record.body.type === 'genesis'
    if (!(isGenesis ? id : record.parcel).equals(this.parcel)) {
      throw new ParcelError('INTEGRITY', 'refused a control record of another parcel')
    }
    const name = id.toString('hex')
    if (this.#records.has(name)) return false
    this.#records.set(name, verified)
    this.#members = null
    this.#incarnations = null
    const author = record.author.toString('hex')
    this.#counts.set(author, Math.max(this.#counts.get(author) ?? 0, record.sequence + 1))
    if (record.body.type === 'receipt') {
      const version = record.body.version.toString('hex')
      this.#receipts.set(version, (this.#receipts.get(version) ?? new Set()).add(author))
    }
    if (record.body.type === 'drop') {
      const core = record.body.core.toString('hex')
      const drops = this.#drops.get(core) ?? []
      this.#drops.set(core, [...drops, { author, ranges: record.body.ranges }])
    }
    if (!this.#referred.has(name)) this.#heads.set(name, id)
    for (const parent of record.parents) {
      this.#referred.add(parent.toString('hex'))
      this.#heads.delete(parent.toString('hex'))
    }
    return true
  }

  /** Takes in a record that a peer passed on: only a member's `cores` record is of use. */
  addAnnouncement(signed: SignedRecord): boolean {
    const { body, author } = decodeControlRecord(signed.bytes)
    if (body.type !== 'cores' || !this.isMember(author)) return false
    return this.add(signed)
  }

  /** Role by host key in hex. Only an owner's `member` records count, from the genesis on. */
  members(): Map<string, MemberRole> {
    this.#members ??= this.#computeMembers()
    return this.#members
  }

  isMember(host: Buffer): boolean {
    return this.members().has(host.toString('hex'))
  }

  /**
   * The cores that members announced. A host that has just joined knows no genesis yet and takes
   * the announcement that came with its invite, the only record it has.
   */
  incarnations(): readonly Announced[] {
    this.#incarnations ??= this.#findIncarnations()
    return this.#incarnations
  }

  /** Hosts, in hex, that hold all of a version durably and have signed so. */
  holders(version: Buffer): Set<string> {
    const signed = this.#receipts.get(version.toString('hex')) ?? new Set<string>()
    const members = this.members()
    return new Set([...signed].filter((host) => members.has(host)))
  }

  /** Who said which blocks of a core, in hex, are not needed any more; it only ever grows. */
  drops(core: string): readonly Drop[] {
    return this.#drops.get(core) ?? []
  }

  #findIncarnations(): Announced[] {
    const isBlank = this.members().size === 0
    const found: Announced[] = []
    for (const { record, bytes, signature } of this.#records.values()) {
      if (record.body.type !== 'cores') continue
      if (!isBlank && !this.isMember(record.author)) continue
      const { incarnation } = record.body
      found.push({ host: record.author, incarnation, signed: { bytes, signature } })
    }
    return found
  }

  #computeMembers(): Map<string, MemberRole> {
    const members = new Map<string, MemberRole>()
    const genesis = this.#records.get(this.parcel.toString('hex'))
    if (genesis === undefined) return members
    members.set(genesis.record.author.toString('hex'), 'owner')
    // Author's sequence, then id: an order that comes from the set of records alone. The first
    // word of an owner on a host counts.
    const records = [...this.#records.values()].toSorted(
      (a, b) => a.record.sequence - b.record.sequence || Buffer.compare(a.id, b.id)
    )
    for (let grew = true; grew;) {
      grew = false
      for (const { record } of records) {
        if (record.body.type !== 'member') continue
        const host = record.body.host.toString('hex')
        const isByOwner = members.get(record.author.toString('hex')) === 'owner'
        if (!isByOwner || members.has(host)) continue
        members.set(host, record.body.role)
        // From the beginning: whom this one lets in may have been passed by.
        grew = true
        break
      }
    }
    return members
  }
}

/** Signs a record. Its id is the hash of its bytes. */
export function signControl(
  identity: Identity,
  fields: Omit<ControlRecord, 'author' | 'extensions'>
): Signed {
  const record = { ...fields, author: identity.publicKey, extensions: [] }
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

function verify({ bytes, signature }: SignedRecord): Signed {
  const record = decodeControlRecord(bytes)
  if (!verifySignature(NS.controlSignature, bytes, signature, record.author)) {
    throw new ParcelError('INTEGRITY', 'refused a control record with a wrong signature')
  }
  return { record, bytes, signature, id: keyedHash(NS.control, bytes) }
}
