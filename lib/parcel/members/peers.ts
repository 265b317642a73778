import { MAX_INTRODUCED, MAX_INTRODUCED_BYTES, type RecoveryAnswer } from '../../format/recovery.js'
import type { SignedRecord } from '../../format/wire.js'
import type { Keyring } from '../../keys/keyring.js'
import type { LogSet } from '../logs/log-set.js'
import type { OwnLogs } from '../logs/own-logs.js'
import type { SavedState } from '../saved-state.js'
import type { Control } from './control.js'

/** Hosts of which it is kept when they were heard, and how exactly, ms. */
const [MOST_SEEN, SEEN_EVERY] = [1_024, 600_000]

interface PeersParts {
  parcel: Buffer
  control: Control
  keyring: Keyring
  set: LogSet
  own: OwnLogs
  saved: SavedState
  clock: () => number
  /** This host, in hex. */
  self: string
  onHeard: () => void
  onChange: () => void
}

/** Whom this host meets for a parcel, where, and what they tell each other first. Hosts are in hex. */
export class Peers {
  readonly #parts: PeersParts
  /** Hosts whose disks the user has plugged in here: who has let them in may not be known yet. */
  readonly #guests = new Set<string>()

  constructor(parts: PeersParts) {
    this.#parts = parts
  }

  /** Hosts whose connections are accepted: members, and whoever invited us. */
  trusted(): Set<string> {
    const { control, set, self } = this.#parts
    const hosts = control.isBlank ? set.hosts() : new Set(control.members.roles.keys())
    for (const guest of this.#guests) {
      if (!control.members.revoked.has(guest)) hosts.add(guest)
    }
    hosts.delete(self)
    return hosts
  }

  /**
   * Until the returned function is called logs are exchanged with a host, unless it was shut out. It is given
   * nothing that only members get.
   */
  welcome(host: string): () => void {
    this.#guests.add(host)
    this.#parts.onChange()
    return () => {
      this.#guests.delete(host)
      this.#parts.onChange()
    }
  }

  /** When a host said last what its newest versions are, ms since 1970; null: never. */
  lastSeen(host: string): number | null {
    return this.#parts.saved.value.seen[host] ?? null
  }

  /** A host has said what its newest versions are. */
  heardFrom(host: string): void {
    this.#parts.onHeard()
    const { saved, clock } = this.#parts
    const { seen } = saved.value
    const now = clock()
    const before = seen[host] ?? 0
    if (Object.keys(seen).length >= MOST_SEEN && !(host in seen)) return
    seen[host] = now
    // Closing saves it too: it need not be exact.
    if (Math.abs(now - before) < SEEN_EVERY) return
    saved.save().catch(() => {})
  }

  /** Where members meet on the DHT, and where they meet vaults, if there are any, or none is known yet. */
  topics(): Buffer[] {
    const { control, keyring } = this.#parts
    const hasVaults = control.isBlank || [...control.members.roles.values()].includes('vault')
    const topics = [keyring.topic()]
    if (hasVaults) topics.push(keyring.topic({ withVaults: true }))
    return topics
  }

  recoveryTopics(): Buffer[] {
    const { control } = this.#parts
    return [...this.trusted()].flatMap((host) => control.recovery(host)?.topic ?? [])
  }

  recoveryFor(host: string): RecoveryAnswer | null {
    const { parcel, control, own } = this.#parts
    const said = control.recovery(host)
    if (said === null || own.current === null) return null
    return { parcel, record: said.signed, announcements: this.introductions(host) }
  }

  /** Signed `cores` records of all hosts, to pass on. */
  announcements(): SignedRecord[] {
    return this.#parts.control.incarnations().map(({ signed }) => signed)
  }

  /** Takes in announcements from a peer; only members' `cores` records count. */
  async announce(records: readonly SignedRecord[]): Promise<void> {
    const { control, set } = this.#parts
    let isNew = false
    for (const record of records) isNew = control.addAnnouncement(record) || isNew
    if (isNew) await set.refresh()
  }

  /** This host's own `cores` record, for a newcomer to begin with. */
  ownAnnouncement(): SignedRecord {
    return this.#parts.own.announcement()
  }

  /**
   * `cores` records for a host that knows nobody yet: this host's own first, then its own if it was a
   * member before, then owners', who know of the beginning, then those of vaults and all others.
   */
  introductions(to = ''): SignedRecord[] {
    const { control } = this.#parts
    const rank = (host: string): number => {
      if (host === to) return 0
      const role = control.members.roles.get(host)
      return role === undefined ? 9 : ['owner', 'vault', 'runner', 'reader'].indexOf(role) + 1
    }
    const others = control
      .incarnations()
      .map(({ host, signed }) => ({ by: rank(host.toString('hex')), signed }))
      .toSorted((a, b) => a.by - b.by)
    let left = MAX_INTRODUCED_BYTES
    const found = [this.ownAnnouncement()]
    for (const { signed } of others) {
      left -= signed.bytes.byteLength + signed.signature.byteLength
      if (left < 0 || found.length === MAX_INTRODUCED) break
      if (!found.some(({ signature }) => signature.equals(signed.signature))) found.push(signed)
    }
    return found
  }

  /** Takes in where others' logs are, if this host does not know who is a member. */
  async introduce(announcements: readonly SignedRecord[]): Promise<void> {
    const { control, set, onChange } = this.#parts
    if (!control.isBlank) return
    for (const record of announcements) control.add(record)
    await set.refresh()
    onChange()
  }
}
