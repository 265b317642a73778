import { setTimeout } from 'node:timers/promises'
import type NoiseSecretStream from '@hyperswarm/secret-stream'
import DHT from 'hyperdht'
import type { Connection, Discovery } from 'hyperswarm'
import Protomux from 'protomux'
import { pathTo, type PeerStatus } from '../peer-status.js'
import type { KeyPair } from '../keys/identity.js'
import type { Address, Addresses } from './addresses.js'
import { ParcelChannel, PROTOCOL, channelId } from './channel.js'
import { createNode, isLocal, leave, type Node } from './dht.js'
import { Direct, type Reached } from './direct.js'
import { Link } from './link.js'
import { localLink } from './local-link.js'
import { PatientSwarm } from './patient-swarm.js'
import { answerRecovery } from './recovery.js'
import { Relays } from './relay.js'
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

/** A host of which nothing was heard for so long is dialled anew beside the connection; at last that is ended, ms. */
const [QUIET, SILENT] = [4_500, 12_000]
/** From who is not reached at all nothing comes after this, ms: a dial is taken for a connection before that. */
const FIRST = 6_000
const KEEP_ALIVE = 2_000

/**
 * Connections to trusted hosts. A key that no parcel trusts is refused in the handshake, before
 * there is a stream; a parcel's channel and logs are open only to hosts which that parcel trusts.
 */
export class Swarm {
  readonly #keyPair: KeyPair
  readonly #swarm: PatientSwarm
  readonly #tcp: TcpCarrier
  readonly #direct: Direct
  readonly #addresses: Addresses
  readonly #relays: Relays
  readonly #shared = new Map<string, Shared>()
  /** By host, in hex. */
  readonly #links = new Map<string, Link>()
  readonly #dismissed = new WeakSet<ParcelChannel>()
  /** Members that broke the rules of a connection, in hex, and until when they are refused. */
  readonly #shunned = new Map<string, number>()
  #refused = 0
  #onMet: (connection: Connection) => void = () => {}
  #setReady = (): void => {}

  constructor(keyPair: KeyPair, bootstrap: Node[] | null, addresses: Addresses) {
    this.#keyPair = keyPair
    this.#addresses = addresses
    const dht = createNode(bootstrap)
    this.#relays = new Relays(dht, (host) => this.#isTrusted(host))
    dht.asWhom = (relay) => (this.#relays.knows(relay) ? keyPair : DHT.keyPair())
    this.#swarm = new PatientSwarm({
      keyPair,
      dht,
      backoffs: BACKOFFS,
      firewall: (key) => this.#isMet(key) || this.#isRefused(key.toString('hex')),
      relayTo: (host) => this.#relayTo(host.toString('hex'))
    })
    this.#tcp = new TcpCarrier(keyPair, isLocal(bootstrap) ? '127.0.0.1' : null, addresses.port)
    this.#tcp.ready = new Promise((resolve) => (this.#setReady = resolve))
    this.#direct = new Direct({
      keyPair,
      tcp: this.#tcp,
      addresses,
      isLoopback: isLocal(bootstrap),
      trusted: () => this.#trusted(),
      reached: (host) => this.#reached(host),
      onConnection: (stream) => this.#onDirect(stream),
      onChange: (here) => {
        for (const link of this.#links.values()) link.doubt(here)
      },
      seek: (host) => this.#swarm.joinPeer(Buffer.from(host, 'hex'))
    })
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

  /** All parcels that this host is opened with are shared: from now on it is known who is a stranger. */
  ready(): void {
    this.#setReady()
  }

  /** Carries connections between hosts that reach this one and not each other, or no more. */
  relay(isOn: boolean): Promise<void> {
    return this.#relays.set(isOn)
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

  /** Calls for each host that this one is connected with, now or later. */
  whenMet(onMet: (connection: Connection) => void): void {
    this.#onMet = onMet
    for (const { connection } of this.#links.values()) onMet(connection)
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
    this.#relays.review()
    await Promise.all([...shared.discoveries.values()].map((discovery) => discovery.destroy()))
  }

  peers(parcel: SharedParcel): PeerStatus[] {
    const channels = this.#shared.get(parcel.id.toString('hex'))?.channels ?? new Map()
    return [...channels.values()].map((channel: ParcelChannel) => ({
      host: channel.host,
      ...this.#way(this.#links.get(channel.host)),
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
      if ([...parcel.peers.trusted()].every((host) => heard.has(host))) return heard
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
    await leave(this.#swarm, this.#leave())
  }

  /** Takes back from the DHT where this host is. */
  async #leave(): Promise<void> {
    await Promise.all([...this.#shared.values()].map(({ parcel }) => this.unshare(parcel)))
    this.#direct.close()
    this.ready()
    for (const { connection, isLocal } of this.#links.values()) if (isLocal) connection.destroy()
    if (this.#tcp.port > 0) this.#addresses.port = this.#tcp.port
    await this.#tcp.close()
    await this.#relays.set(false).catch(() => {})
    await this.#swarm.destroy()
    await this.#addresses.close()
  }

  /** Whether a host, in hex, is in this process: a folder that this host serves. */
  isHere(host: string): boolean {
    return this.#links.get(host)?.isLocal === true
  }

  /** Whether a host, in hex, is in this process or on a network that this one is in. */
  isNear(host: string): boolean {
    const link = this.#links.get(host)
    if (link === undefined) return false
    return link.isLocal || (!link.isRelayed && this.#direct.isNear(link.address))
  }

  #way(link: Link | undefined): Pick<PeerStatus, 'carrier' | 'relay' | 'address'> {
    if (link === undefined) return { carrier: 'udx', relay: null, address: '' }
    const { carrierName: carrier, address } = link
    return { carrier, relay: carrier === 'udx' ? this.#relays.of(link) : null, address }
  }

  /** The key of a relay that a host may be reached through. */
  #relayTo(host: string): Buffer | null {
    const parcels = [...this.#shared.values()].map(({ parcel }) => parcel.peers.trusted())
    return this.#relays.through(
      (relay) =>
        relay !== host && parcels.some((trusted) => trusted.has(relay) && trusted.has(host))
    )
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
      if (parcel.peers.trusted().has(host))
        parcel.problem(host, `${what}: its connection was ended`)
    }
    this.#links.get(host)?.connection.destroy()
    this.#relays.review()
  }

  #isTrusted(host: string): boolean {
    const until = this.#shunned.get(host)
    if (until !== undefined && until > performance.now()) return false
    this.#shunned.delete(host)
    for (const { parcel } of this.#shared.values())
      if (parcel.peers.trusted().has(host)) return true
    return false
  }

  /** Who is here anyway, or is well reached without the DHT, need not come through it. */
  #isMet(key: Buffer): boolean {
    const link = this.#links.get(key.toString('hex'))
    return link?.isLocal === true || (link?.isDirect === true && link.silence() < QUIET)
  }

  /** Hosts, in hex, that may connect. */
  #trusted(): Set<string> {
    const trusted = new Set<string>()
    for (const { parcel } of this.#shared.values()) {
      for (const host of parcel.peers.trusted()) if (this.#isTrusted(host)) trusted.add(host)
    }
    return trusted
  }

  #reached(host: string): Reached {
    const link = this.#links.get(host)
    if (link === undefined) return 'not'
    const silence = link.silence()
    if (link.isLocal) return 'well'
    // Whoever looks for it in other ways is held up by this one.
    if (silence > SILENT) link.connection.destroy()
    if (silence > QUIET) return 'not'
    const path = pathTo(this.#way(link))
    return path === 'lan' ? 'well' : path === 'relayed' ? 'relayed' : 'direct'
  }

  /** Both sides may have dialled: of two connections that are well the one stays that the smaller key made. */
  #onDirect(stream: NoiseSecretStream): void {
    const host = stream.remotePublicKey.toString('hex')
    const before = this.#links.get(host)
    if (!this.#isTrusted(host) || before?.isLocal === true) {
      stream.destroy()
      return
    }
    const isWell = before?.isDirect === true && before.silence() < QUIET
    if (isWell && isBySmaller(before.connection) && !isBySmaller(stream)) stream.destroy()
    else this.#onConnection(stream, { isDirect: true })
  }

  #onConnection(connection: Connection, { isLocal = false, isDirect = false } = {}): void {
    if (!isLocal && !isDirect && this.#isMet(connection.remotePublicKey)) {
      connection.destroy()
      return
    }
    // An ended connection is told to hyperswarm, which tries again; there is nothing else to do.
    connection.on('error', () => {})
    connection.setKeepAlive(KEEP_ALIVE)
    const host = connection.remotePublicKey.toString('hex')
    const onRude = (what: string): void => this.#shun(host, what)
    const onReached = (at: Address): void => this.#addresses.add(host, at)
    const isRelayed = (link: Link): boolean => this.#relays.of(link) !== null
    const link = new Link(connection, this.#tcp, {
      isLocal,
      isDirect,
      isRelayed,
      onRude,
      onReached
    })
    const before = this.#links.get(host)
    this.#links.set(host, link)
    void setTimeout(FIRST, undefined, { ref: false }).then(() => {
      if (connection.rawBytesRead === 0) connection.destroy()
    })
    connection.once('close', () => {
      if (this.#links.get(host) !== link) return
      this.#links.delete(host)
      this.#direct.lost(host)
      // hyperswarm knows nothing of it, and has been told that it is met.
      if (isDirect && this.#isTrusted(host)) this.#swarm.joinPeer(connection.remotePublicKey)
    })
    if (before !== undefined && (isDirect || before.isDirect)) before.connection.destroy()
    answerRecovery(connection, link.host, () =>
      [...this.#shared.values()].map(({ parcel }) => parcel)
    )
    if (!isLocal) this.#relays.meet(link)
    this.#onMet(connection)
    for (const shared of this.#shared.values()) this.#attach(shared, link)
  }

  #update(shared: Shared): void {
    const trusted = shared.parcel.peers.trusted()
    this.#relays.review()
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
    const meeting = parcel.peers.topics().map((topic) => ({ topic, client: true }))
    const waiting = parcel.peers.recoveryTopics().map((topic) => ({ topic, client: false }))
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
        if (parcel.peers.trusted().has(host)) {
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
    if (!parcel.peers.trusted().has(host) || channels.has(host) || connection.destroyed) return
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

/** Whether the side with the smaller key has dialled. */
function isBySmaller({ isInitiator, publicKey, remotePublicKey }: Connection): boolean {
  return isInitiator === Buffer.compare(publicKey, remotePublicKey) < 0
}
