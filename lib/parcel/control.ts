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
  #members: Map<string, MemberRole> | null = null

  constructor(parcel: Buffer) {
    this.parcel = parcel
  }

  get heads(): Buffer[] {
    return [...this.#heads.values()]
  }

  /** How many records an author has written; the next one's sequence. */
  count(author: Buffer): number {
    let count = 0
    for (const { record } of this.#records.values()) {
      if (record.author.equals(author)) count = Math.max(count, record.sequence + 1)
    }
    return count
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
    if (!this.#referred.has(name)) this.#heads.set(name, id)
    for (const parent of record.parents) {
      this.#referred.add(parent.toString('hex'))
      this.#heads.delete(parent.toString('hex'))
    }
    return true
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
  incarnations(): Announced[] {
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

  /** Hosts, in hex, that hold all of a version durably and have signed so. */
  holders(version: Buffer): Set<string> {
    const holders = new Set<string>()
    for (const { record } of this.#records.values()) {
      if (record.body.type !== 'receipt' || !record.body.version.equals(version)) continue
      if (this.isMember(record.author)) holders.add(record.author.toString('hex'))
    }
    return holders
  }

  #computeMembers(): Map<string, MemberRole> {
    const members = new Map<string, MemberRole>()
    const genesis = this.#records.get(this.parcel.toString('hex'))
    if (genesis === undefined) return members
    members.set(genesis.record.author.toString('hex'), 'owner')
    for (let grew = true; grew;) {
      grew = false
      for (const { record } of this.#records.values()) {
        if (record.body.type !== 'member') continue
        const host = record.body.host.toString('hex')
        const isByOwner = members.get(record.author.toString('hex')) === 'owner'
        if (!isByOwner || members.has(host)) continue
        members.set(host, record.body.role)
        grew = true
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
