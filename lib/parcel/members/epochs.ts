import type { ControlBody, MemberRole } from '../../format/control-record.js'
import { MAX_EPOCHS_LISTED, type EpochKeys } from '../../format/epoch-keys.js'
import { KEY_BYTES } from '../../format/limits.js'
import { sealEarlier, sealKeys, unsealEarlier, unsealKeys } from '../../keys/epoch-box.js'
import { randomBytes, type Identity } from '../../keys/identity.js'
import type { Keyring } from '../../keys/keyring.js'
import type { Control, Signed } from './control.js'

/** In an epoch record, in place of a host: keys of earlier epochs, for whoever has the new ones. */
const ANYONE = Buffer.alloc(KEY_BYTES)

/** The key epochs of a parcel on this host: takes in the keys that records give it, and makes new ones. */
export class Epochs {
  readonly #control: Control
  readonly #keyring: Keyring
  readonly #identity: Identity
  /** Records whose earlier keys were taken in. */
  readonly #read = new Set<string>()
  #seen: { state: string; apart: EpochKeys[] } = { state: '', apart: [] }

  constructor(control: Control, keyring: Keyring, identity: Identity) {
    this.#control = control
    this.#keyring = keyring
    this.#identity = identity
  }

  /**
   * Takes in all keys that the records here give this host, and seals with those of the newest
   * epoch from now on. Whether any were new.
   */
  learn(): boolean {
    let isNew = false
    // Keys of one epoch can open what gives those of others.
    for (let grew = true; grew;) {
      grew = false
      for (const signed of this.#control.epochs()) grew = this.#learnFrom(signed) || grew
      isNew ||= grew
    }
    // Before it knows who is who, it has the newest keys from who let it in.
    if (this.#control.isBlank) return isNew
    const { epoch } = this.#control.members
    this.#keyring.use(epoch === null ? null : Buffer.from(epoch.record, 'hex'))
    return isNew
  }

  /** A new epoch for these members, by host in hex: what to say, as a control record. */
  begin(roles: ReadonlyMap<string, MemberRole>): ControlBody {
    const { epoch } = this.#control.members
    const keys: EpochKeys = {
      epoch: (epoch?.number ?? 0) + 1,
      record: null,
      epochKey: randomBytes(KEY_BYTES),
      controlKey: randomBytes(KEY_BYTES)
    }
    const { parcel } = this.#control
    const sealed = [...roles].map(([host, role]) => {
      const to = Buffer.from(host, 'hex')
      return {
        host: to,
        keys: sealKeys(parcel, to, role === 'vault' ? withoutEpochKey(keys) : keys)
      }
    })
    // Each epoch tells of those before it, so the newest few lead to all, but for others begun beside them.
    const known = this.#keyring.list().toSorted((a, b) => b.epoch - a.epoch)
    const apart = this.#apart()
    const earlier = [...new Set([...known.slice(0, 1), ...apart, ...known])].slice(
      0,
      MAX_EPOCHS_LISTED
    )
    for (const secret of [keys.epochKey, keys.controlKey]) {
      if (secret === null) continue
      const told = secret === keys.epochKey ? earlier : earlier.map(withoutEpochKey)
      sealed.push({ host: ANYONE, keys: sealEarlier(parcel, secret, told) })
    }
    return { type: 'epoch', number: keys.epoch, sealed }
  }

  /** Whether the current epoch was sealed to this host, and cannot be opened: its author broke it. */
  get isBroken(): boolean {
    const { epoch } = this.#control.members
    const self = this.#identity.publicKey.toString('hex')
    return epoch !== null && epoch.sealed.has(self) && !this.#keyring.isCurrent
  }

  /** Whether who is given the current keys alone can find those of all epochs that count. */
  get leadsToAll(): boolean {
    return this.#apart().length === 0
  }

  /** Keys of epochs that count and of which the current one does not tell, nor one that it tells of. */
  #apart(): EpochKeys[] {
    if (!this.#keyring.isCurrent) return []
    const { epochs } = this.#control.members
    const names = new Map(this.#keyring.list().map((keys) => [nameOf(keys.record), keys]))
    const state = `${nameOf(this.#keyring.current.record)} ${names.size} ${epochs.size}`
    if (this.#seen.state === state) return this.#seen.apart
    const found = new Set<string>()
    const look = [nameOf(this.#keyring.current.record)]
    for (let at = look.pop(); at !== undefined; at = look.pop()) {
      if (found.has(at)) continue
      found.add(at)
      const keys = names.get(at)
      const body = this.#control.epochs().find(({ id }) => id.toString('hex') === at)?.record.body
      if (keys === undefined || body?.type !== 'epoch') continue
      look.push(...this.#earlierIn(body, keys).map(({ record }) => nameOf(record)))
    }
    const apart = [...names].flatMap(([name, keys]) =>
      !found.has(name) && (name === '' || epochs.has(name)) ? [keys] : []
    )
    this.#seen = { state, apart }
    return apart
  }

  #learnFrom({ id, record }: Signed): boolean {
    const { body, author } = record
    if (body.type !== 'epoch' || !this.#wasOwner(author.toString('hex'))) return false
    let grew = false
    if (!this.#keyring.has(id)) {
      const mine = body.sealed.find(({ host }) => host.equals(this.#identity.publicKey))
      const keys = mine && unsealKeys(this.#control.parcel, this.#identity, mine.keys, id)
      if (keys) grew = this.#keyring.add(keys)
    }
    const name = id.toString('hex')
    const known = this.#keyring.get(id)
    if (known === null || this.#read.has(name)) return grew
    let isWhole = true
    for (const earlier of this.#earlierIn(body, known)) {
      if (this.#keyring.has(earlier.record) || this.#isTrue(earlier)) {
        grew = this.#keyring.add(earlier) || grew
      } else {
        isWhole = false
        grew = this.#keyring.addTold(earlier) || grew
      }
    }
    // Of a record that is not here yet nobody can say whether its keys are true: again, later.
    if (isWhole) this.#read.add(name)
    return grew
  }

  /** Whether keys are those of the record that they are said to be of: its own boxes open with them. */
  #isTrue({ record, epochKey, controlKey }: EpochKeys): boolean {
    // Nothing tells of the first epoch but blocks under its keys.
    if (record === null) return true
    const own = this.#control.epochs().find(({ id }) => id.equals(record))?.record.body
    if (own?.type !== 'epoch') return false
    const boxes = own.sealed.filter(({ host }) => host.equals(ANYONE))
    return [epochKey, controlKey].every(
      (secret) =>
        secret === null ||
        boxes.some(({ keys }) => unsealEarlier(this.#control.parcel, secret, keys) !== null)
    )
  }

  #earlierIn(body: ControlBody & { type: 'epoch' }, known: EpochKeys): EpochKeys[] {
    const found: EpochKeys[] = []
    for (const { host, keys } of body.sealed) {
      if (!host.equals(ANYONE)) continue
      for (const secret of [known.epochKey, known.controlKey]) {
        if (secret !== null)
          found.push(...(unsealEarlier(this.#control.parcel, secret, keys) ?? []))
      }
    }
    // What has both keys first: it is not replaced by what has one.
    return found.toSorted((a, b) => Number(b.epochKey !== null) - Number(a.epochKey !== null))
  }

  /**
   * Anybody can write a record; keys by the million are nobody's. A host that has just joined does
   * not know who is who before it has the keys to read that.
   */
  #wasOwner(host: string): boolean {
    if (this.#control.isBlank) return true
    const { roles, revoked } = this.#control.members
    return roles.get(host) === 'owner' || revoked.get(host)?.role === 'owner'
  }
}

function nameOf(record: Buffer | null): string {
  return record?.toString('hex') ?? ''
}

function withoutEpochKey(keys: EpochKeys): EpochKeys {
  return { ...keys, epochKey: null }
}
