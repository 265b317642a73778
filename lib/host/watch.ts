import type { Events } from './events.js'
import type { Known } from '../parcel/history.js'
import type { Parcel } from '../parcel/parcel.js'
import type { PeerStatus } from '../peer-status.js'
import { notifyUser } from './notify.js'
import { stallOf } from './stall.js'

/** How often it is looked what has changed, ms. */
const EVERY = 1_000
/** A wait that is no longer is no news, ms. */
const LONG = 4_000

/** What was so when a parcel was looked at last. */
interface Seen {
  versions: Set<string>
  /** Versions of others that are not whole here yet. */
  coming: Map<string, Known>
  isInConflict: boolean
  rollbacks: number
  connected: Map<string, string>
  running: Set<string>
  isStalled: boolean
}

/** Notices what happens with the parcels of a host, and writes it down. */
export class Watch {
  readonly #events: Events
  readonly #parcels: () => readonly Parcel[]
  readonly #peers: (parcel: Parcel) => readonly PeerStatus[]
  readonly #seen = new Map<Parcel, Seen>()
  #timer: NodeJS.Timeout | undefined

  constructor(
    events: Events,
    {
      parcels,
      peers
    }: {
      parcels: () => readonly Parcel[]
      peers: (parcel: Parcel) => readonly PeerStatus[]
    }
  ) {
    this.#events = events
    this.#parcels = parcels
    this.#peers = peers
  }

  start(): void {
    this.#look()
    this.#timer = setInterval(() => this.#look(), EVERY).unref()
  }

  close(): void {
    clearInterval(this.#timer)
  }

  #look(): void {
    const parcels = this.#parcels()
    for (const parcel of this.#seen.keys()) {
      if (!parcels.includes(parcel)) this.#seen.delete(parcel)
    }
    for (const parcel of parcels) {
      const before = this.#seen.get(parcel)
      if (before === undefined) this.#seen.set(parcel, this.#begin(parcel))
      else this.#compare(parcel, before)
    }
  }

  /** What was there at the start is nothing new. */
  #begin(parcel: Parcel): Seen {
    const { history } = parcel
    return {
      versions: new Set([...history.all()].map(({ id }) => id.toString('hex'))),
      coming: new Map(),
      isInConflict: history.isInConflict,
      rollbacks: parcel.rollbacks.length,
      connected: new Map(),
      running: this.#running(parcel),
      isStalled: this.#wasStalled(parcel)
    }
  }

  /** Before this process ended it may have been said that it waits. */
  #wasStalled({ name }: Parcel): boolean {
    const said = this.#events.since(0).filter(({ parcel }) => parcel === name)
    return said.findLast(({ type }) => type === 'stalled' || type === 'goes-on')?.type === 'stalled'
  }

  #running(parcel: Parcel): Set<string> {
    return new Set([...parcel.peers.trusted()].filter((host) => parcel.runningSince(host) !== null))
  }

  #compare(parcel: Parcel, seen: Seen): void {
    const { history, availability, name } = parcel
    const add = (
      type: Parameters<Events['add']>[0]['type'],
      text: string,
      { host = '', version = null }: { host?: string; version?: string | null } = {}
    ): void => this.#events.add({ type, parcel: name, host, version, text })
    if (history.size !== seen.versions.size) {
      for (const known of history.all()) {
        const id = known.id.toString('hex')
        if (seen.versions.has(id)) continue
        seen.versions.add(id)
        seen.coming.set(id, known)
        const host = parcel.hostName(known.version.author.toString('hex'))
        add('version', `${id.slice(0, 6)} of ${host}`, { host, version: id })
      }
    }
    for (const [version, known] of seen.coming) {
      if (!availability.hasBlocks(known)) continue
      seen.coming.delete(version)
      add('whole', `all of ${version.slice(0, 6)} is here`, { version })
    }
    if (history.isInConflict !== seen.isInConflict) {
      seen.isInConflict = history.isInConflict
      if (seen.isInConflict) add('conflict', 'two hosts went on from one version')
    }
    const { length } = parcel.rollbacks
    if (length > seen.rollbacks) add('rollback', parcel.rollbacks.at(-1)?.why ?? '')
    seen.rollbacks = length
    const peers = new Map(this.#peers(parcel).map((peer) => [peer.host, peer.carrier]))
    for (const [id, carrier] of peers) {
      const host = parcel.hostName(id)
      if (!seen.connected.has(id)) add('connected', `${host} is connected (${carrier})`, { host })
    }
    for (const id of seen.connected.keys()) {
      const host = parcel.hostName(id)
      if (!peers.has(id)) add('disconnected', `${host} is not connected any more`, { host })
    }
    seen.connected = peers
    const running = this.#running(parcel)
    for (const id of running) {
      const host = parcel.hostName(id)
      if (!seen.running.has(id)) add('running', `its machine runs on ${host}`, { host })
    }
    for (const id of seen.running) {
      const host = parcel.hostName(id)
      if (!running.has(id)) add('stopped', `its machine runs no more on ${host}`, { host })
    }
    seen.running = running
    const stall = stallOf(parcel, new Set(peers.keys()))
    if (stall !== null && !seen.isStalled && stall.since > LONG) {
      seen.isStalled = true
      const from = stall.from.length === 0 ? '' : `, from ${stall.from.join(' or ')}`
      const text = `it waits for ${stall.why}${from}`
      add('stalled', text)
      notifyUser(`${name}: ${text}`)
    } else if (stall === null && seen.isStalled) {
      seen.isStalled = false
      add('goes-on', 'what it waited for has come, or nobody waits for it any more')
    }
  }
}
