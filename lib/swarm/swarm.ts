import { setTimeout } from 'node:timers/promises'
import Hyperswarm, { type Connection, type Discovery } from 'hyperswarm'
import Protomux from 'protomux'
import type { PeerStatus } from '../peer-status.js'
import type { KeyPair } from '../keys/identity.js'
import { ParcelChannel, PROTOCOL, channelId } from './channel.js'
import { createNode, isLocal, type Node } from './dht.js'
import { Link } from './link.js'
import type { SharedParcel } from './shared-parcel.js'
import { TcpCarrier } from './tcp.js'

interface Shared {
  parcel: SharedParcel
  discovery: Discovery
  channels: Map<string, ParcelChannel>
  /** By `performance.now`. */
  began: number
  stopListening: () => void
}

/** First retries come soon: a host that was just opened should be there in a moment. */
const BACKOFFS = [1_000, 3_000, 10_000, 30_000]

/**
 * Connections to trusted hosts. A key that no parcel trusts is refused in the handshake, before
 * there is a stream; a parcel's channel and logs are open only to hosts which that parcel trusts.
 */
export class Swarm {
  readonly #swarm: Hyperswarm
  readonly #tcp: TcpCarrier
  readonly #shared = new Map<string, Shared>()
  /** By host, in hex. */
  readonly #links = new Map<string, Link>()
  /** Handshakes refused since the start. */
  refused = 0

  constructor(keyPair: KeyPair, bootstrap: Node[] | null) {
    this.#swarm = new Hyperswarm({
      keyPair,
      dht: createNode(bootstrap),
      backoffs: BACKOFFS,
      firewall: (key) => !this.#isTrusted(key.toString('hex'))
    })
    this.#tcp = new TcpCarrier(keyPair, isLocal(bootstrap) ? '127.0.0.1' : null)
    this.#swarm.on('connection', (connection) => this.#onConnection(connection))
    // hyperswarm bans whom the firewall refuses and never forgets it; trust may come later, and
    // a list of strangers must not grow.
    this.#swarm.on('ban', (peer) => {
      this.refused++
      peer.ban(false)
      setImmediate(() => this.#swarm.peers.delete(peer.publicKey.toString('hex')))
    })
  }

  /** Meets the other hosts of a parcel and replicates with them. */
  share(parcel: SharedParcel): void {
    const discovery = this.#swarm.join(parcel.topic(), { server: true, client: true })
    const shared: Shared = {
      parcel,
      discovery,
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

  async unshare(parcel: SharedParcel): Promise<void> {
    const shared = this.#shared.get(parcel.id.toString('hex'))
    if (shared === undefined) return
    this.#shared.delete(parcel.id.toString('hex'))
    shared.stopListening()
    for (const channel of shared.channels.values()) channel.close()
    await shared.discovery.destroy()
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
   * `timeout` ms; once one has, the rest get only `grace` ms more. Returns who was heard, in hex.
   */
  async hear(
    parcel: SharedParcel,
    { timeout, grace, signal }: { timeout: number; grace: number; signal: AbortSignal }
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
      if ((isSought && !isBehind) || now - started >= timeout) return heard
      await setTimeout(20, undefined, { signal })
    }
  }

  async close(): Promise<void> {
    for (const { parcel } of this.#shared.values()) await this.unshare(parcel)
    await this.#tcp.close()
    await this.#swarm.destroy()
  }

  #isTrusted(host: string): boolean {
    for (const { parcel } of this.#shared.values()) if (parcel.trusted().has(host)) return true
    return false
  }

  #onConnection(connection: Connection): void {
    // An ended connection is told to hyperswarm, which tries again; there is nothing else to do.
    connection.on('error', () => {})
    connection.setKeepAlive(5_000)
    const link = new Link(connection, this.#tcp)
    this.#links.set(link.host, link)
    connection.once('close', () => {
      if (this.#links.get(link.host) === link) this.#links.delete(link.host)
    })
    for (const shared of this.#shared.values()) this.#attach(shared, link)
  }

  #update(shared: Shared): void {
    const trusted = shared.parcel.trusted()
    for (const [host, channel] of shared.channels) if (!trusted.has(host)) channel.close()
    for (const host of trusted) {
      this.#swarm.joinPeer(Buffer.from(host, 'hex'))
      const link = this.#links.get(host)
      if (link !== undefined) this.#attach(shared, link)
    }
  }

  #attach(shared: Shared, link: Link): void {
    const { parcel, channels } = shared
    const { host, connection } = link
    if (!parcel.trusted().has(host) || channels.has(host) || connection.destroyed) return
    const channel = ParcelChannel.open(parcel, link, () => {
      if (channels.get(host) === channel) channels.delete(host)
    })
    if (channel === null) return
    channels.set(host, channel)
    // The other side may learn of the parcel only later and open the channel then.
    Protomux.from(connection).pair({ protocol: PROTOCOL, id: channelId(parcel.id) }, () =>
      this.#attach(shared, link)
    )
  }
}
