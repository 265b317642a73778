import { setTimeout } from 'node:timers/promises'
import type { Connection, Discovery } from 'hyperswarm'
import Protomux from 'protomux'
import type { PeerStatus } from '../peer-status.js'
import type { KeyPair } from '../keys/identity.js'
import { ParcelChannel, PROTOCOL, channelId } from './channel.js'
import { createNode, isLocal, type Node } from './dht.js'
import { Link } from './link.js'
import { localLink } from './local-link.js'
import { PatientSwarm } from './patient-swarm.js'
import { answerRecovery } from './recovery.js'
import type { SharedParcel } from './shared-parcel.js'
import { TcpCarrier } from './tcp.js'

interface Shared {
  parcel: SharedParcel
  /** By topic, in hex. */
  discoveries: Map<string, Discovery>
  channels: Map<string, ParcelChannel>
  /** By `performance.now`. */
  began: number
  stopListening: () => void
}

/** So long a host that is shut out is still served, ms: the record that says so is on its way to it. */
const FAREWELL = 500

/** Each is announced by itself; of hosts that could come back with nothing few do. */
const MOST_WAITING = 32

/** So long a host that broke the rules of a connection is refused, ms. */
const SHUNNED = 60_000

/** First retries come soon: a host that was just opened should be there in a moment. */
const BACKOFFS = [1_000, 3_000, 10_000, 30_000]

/** How long nodes of the DHT may take to hear that this host leaves, ms. */
const LEAVING = 1_000

/**
 * Connections to trusted hosts. A key that no parcel trusts is refused in the handshake, before
 * there is a stream; a parcel's channel and logs are open only to hosts which that parcel trusts.
 */
export class Swarm {
  readonly #keyPair: KeyPair
  readonly #swarm: PatientSwarm
  readonly #tcp: TcpCarrier
  readonly #shared = new Map<string, Shared>()
  /** By host, in hex. */
  readonly #links = new Map<string, Link>()
  readonly #dismissed = new WeakSet<ParcelChannel>()
  /** Members that broke the rules of a connection, in hex, and until when they are refused. */
  readonly #shunned = new Map<string, number>()
  #refused = 0

  constructor(keyPair: KeyPair, bootstrap: Node[] | null) {
    this.#keyPair = keyPair
    this.#swarm = new PatientSwarm({
      keyPair,
      dht: createNode(bootstrap),
      backoffs: BACKOFFS,
      firewall: (key) => this.#isMet(key) || this.#isRefused(key.toString('hex'))
    })
    this.#tcp = new TcpCarrier(keyPair, isLocal(bootstrap) ? '127.0.0.1' : null)
    this.#swarm.on('connection', (connection) => this.#onConnection(connection))
    // hyperswarm bans whom the firewall refuses and never forgets it; trust may come later, and
    // a list of strangers must not grow.
    this.#swarm.on('ban', (peer) => {
      peer.ban(false)
      setImmediate(() => this.#swarm.peers.delete(peer.publicKey.toString('hex')))
    })
  }

  /** Who was refused since the start: keys that no parcel trusts, and sockets that did not show one in time. */
  get refused(): number {
    return this.#refused + this.#tcp.refused
  }

  /** Meets the other hosts of a parcel and replicates with them. */
  share(parcel: SharedParcel): void {
    const shared: Shared = {
      parcel,
      discoveries: new Map(),
      channels: new Map(),
      began: performance.now(),
      stopListening: parcel.onChange(() => this.#update(shared))
    }
    this.#shared.set(parcel.id.toString('hex'), shared)
    parcel.synthesis.answerers = () =>
      [...shared.channels.values()].flatMap((channel) =>
        channel.isReady && !channel.questions.isSilent ? [channel.questions] : []
      )
    this.#update(shared)
  }

  /** Connects with another host of this process. Returns how to end that. */
  async meet(other: Swarm): Promise<() => void> {
    const link = await localLink(this.#keyPair, other.#keyPair)
    if (link === null) return () => {}
    const [here, there] = link
    for (const [swarm, connection] of [
      [this, here],
      [other, there]
    ] as const) {
      const known = swarm.#links.get(connection.remotePublicKey.toString('hex'))
      known?.connection.destroy()
      swarm.#onConnection(connection, { isLocal: true })
    }
    return () => here.destroy()
  }

  async unshare(parcel: SharedParcel): Promise<void> {
    const shared = this.#shared.get(parcel.id.toString('hex'))
    if (shared === undefined) return
    this.#shared.delete(parcel.id.toString('hex'))
    shared.stopListening()
    for (const channel of shared.channels.values()) channel.close()
    await Promise.all([...shared.discoveries.values()].map((discovery) => discovery.destroy()))
  }

  peers(parcel: SharedParcel): PeerStatus[] {
    const channels = this.#shared.get(parcel.id.toString('hex'))?.channels ?? new Map()
    return [...channels.values()].map((channel: ParcelChannel) => ({
      host: channel.host,
      address: this.#links.get(channel.host)?.connection.rawStream.remoteHost ?? '',
      carrier: this.#links.get(channel.host)?.carrierName ?? 'udx',
      software: channel.software,
      refusal: channel.refusal,
      isCaughtUp: channel.isCaughtUp
    }))
  }

  /**
   * Waits until every other host of the parcel has said what its newest versions are, at most
   * `timeout` ms; once one has, the rest get only `grace` ms more, but for those of `until`. Returns
   * who was heard, in hex.
   */
  async hear(
    parcel: SharedParcel,
    {
      timeout,
      grace,
      signal,
      until = new Set()
    }: { timeout: number; grace: number; signal: AbortSignal; until?: ReadonlySet<string> }
  ): Promise<Set<string>> {
    const started = performance.now()
    const shared = this.#shared.get(parcel.id.toString('hex'))
    for (;;) {
      const channels = [...(shared?.channels.values() ?? [])]
      const caughtUp = channels.filter((channel) => channel.isCaughtUp)
      const heard = new Set(caughtUp.map(({ host }) => host))
      if ([...parcel.trusted()].every((host) => heard.has(host))) return heard
      const now = performance.now()
      // Who has not been found in all the time since the parcel was shared is not there.
      const since = shared?.began ?? started
      const first = Math.min(...caughtUp.map(({ opened }) => opened))
      const isSought = now - since >= timeout || now - first >= grace
      const isBehind = channels.some(({ isReady, isCaughtUp }) => isReady && !isCaughtUp)
      const isLacking = [...until].some((host) => !heard.has(host))
      if ((isSought && !isBehind && !isLacking) || now - started >= timeout) return heard
      await setTimeout(20, undefined, { signal })
    }
  }

  async close(): Promise<void> {
    const left = this.#leave()
    const isLate = setTimeout(LEAVING, true, { ref: false })
    // Ends what still waits for an answer of nodes that are not there.
    if ((await Promise.race([left, isLate])) === true) {
      await this.#swarm.dht.destroy({ force: true })
    }
    await left
  }

  /** Takes back from the DHT where this host is. */
  async #leave(): Promise<void> {
    await Promise.all([...this.#shared.values()].map(({ parcel }) => this.unshare(parcel)))
    for (const { connection, isLocal } of this.#links.values()) if (isLocal) connection.destroy()
    await this.#tcp.close()
    await this.#swarm.destroy()
  }

  /** Whether a host, in hex, is in this process: a folder that this host serves. */
  isHere(host: string): boolean {
    return this.#links.get(host)?.isLocal === true
  }

  #isRefused(host: string): boolean {
    if (this.#isTrusted(host)) return false
    this.#refused++
    return true
  }

  /** Ends what a host has with this one, and refuses it for a while. */
  #shun(host: string, what: string): void {
    this.#shunned.set(host, performance.now() + SHUNNED)
    for (const { parcel } of this.#shared.values()) {
      if (parcel.trusted().has(host)) parcel.problem(host, `${what}: its connection was ended`)
    }
    this.#links.get(host)?.connection.destroy()
  }

  #isTrusted(host: string): boolean {
    const until = this.#shunned.get(host)
    if (until !== undefined && until > performance.now()) return false
    this.#shunned.delete(host)
    for (const { parcel } of this.#shared.values()) if (parcel.trusted().has(host)) return true
    return false
  }

  /** Who is here anyway need not come over the network. */
  #isMet(key: Buffer): boolean {
    return this.#links.get(key.toString('hex'))?.isLocal === true
  }

  #onConnection(connection: Connection, { isLocal = false } = {}): void {
    if (!isLocal && this.#isMet(connection.remotePublicKey)) {
      connection.destroy()
      return
    }
    // An ended connection is told to hyperswarm, which tries again; there is nothing else to do.
    connection.on('error', () => {})
    connection.setKeepAlive(5_000)
    const host = connection.remotePublicKey.toString('hex')
    const onRude = (what: string): void => this.#shun(host, what)
    const link = new Link(connection, this.#tcp, { isLocal, onRude })
    this.#links.set(link.host, link)
    connection.once('close', () => {
      if (this.#links.get(link.host) === link) this.#links.delete(link.host)
    })
    answerRecovery(connection, link.host, () =>
      [...this.#shared.values()].map(({ parcel }) => parcel)
    )
    for (const shared of this.#shared.values()) this.#attach(shared, link)
  }

  #update(shared: Shared): void {
    const trusted = shared.parcel.trusted()
    this.#meet(shared)
    for (const [host, channel] of shared.channels) {
      if (!trusted.has(host)) this.#dismiss(shared, host, channel)
    }
    for (const host of trusted) {
      const link = this.#links.get(host)
      if (link?.isLocal !== true) this.#swarm.joinPeer(Buffer.from(host, 'hex'))
      if (link !== undefined) this.#attach(shared, link)
    }
  }

  /** Looks for the others where they are now, and no longer where they were. */
  #meet({ parcel, discoveries }: Shared): void {
    const meeting = parcel.topics().map((topic) => ({ topic, client: true }))
    const waiting = parcel.recoveryTopics().map((topic) => ({ topic, client: false }))
    const topics = new Map(
      [...waiting.slice(0, MOST_WAITING), ...meeting].map((each) => [
        each.topic.toString('hex'),
        each
      ])
    )
    for (const [name, { topic, client }] of topics) {
      if (discoveries.has(name)) continue
      discoveries.set(name, this.#swarm.join(topic, { server: true, client }))
    }
    for (const [name, discovery] of discoveries) {
      if (topics.has(name)) continue
      discoveries.delete(name)
      discovery.destroy().catch(() => {})
    }
  }

  /** Ends all exchange with a host that a parcel trusts no more, when it has been told. */
  #dismiss({ parcel }: Shared, host: string, channel: ParcelChannel): void {
    if (this.#dismissed.has(channel)) return
    this.#dismissed.add(channel)
    setTimeout(FAREWELL, undefined, { ref: false }).then(
      () => {
        if (parcel.trusted().has(host)) {
          this.#dismissed.delete(channel)
          return
        }
        channel.close()
        if (this.#isTrusted(host)) return
        this.#swarm.leavePeer(Buffer.from(host, 'hex'))
        this.#links.get(host)?.connection.destroy()
      },
      () => {}
    )
  }

  #attach(shared: Shared, link: Link): void {
    const { parcel, channels } = shared
    const { host, connection } = link
    // It may have been removed while the connection lived.
    if (this.#shared.get(parcel.id.toString('hex')) !== shared) return
    if (!parcel.trusted().has(host) || channels.has(host) || connection.destroyed) return
    const channel = ParcelChannel.open(parcel, link, () => {
      if (channels.get(host) === channel) channels.delete(host)
      // Another way may have come in its place meanwhile.
      const other = this.#links.get(host)
      if (other !== undefined && other !== link) this.#attach(shared, other)
    })
    if (channel === null) return
    channels.set(host, channel)
    // The other side may learn of the parcel only later and open the channel then.
    Protomux.from(connection).pair({ protocol: PROTOCOL, id: channelId(parcel.id) }, () =>
      this.#attach(shared, link)
    )
  }
}
