import { Server, type Session } from 'blind-relay'
import { raw } from 'compact-encoding'
import DHT from 'hyperdht'
import Protomux, { type Message } from 'protomux'
import { KEY_BYTES } from '../format/limits.js'
import type { DhtNode } from './dht.js'
import type { Link } from './link.js'

const PROTOCOL = 'hyperparcel/relay'
/** Connections of hosts that are to be relayed; a pair of hosts has two. */
const MOST_SESSIONS = 128

/**
 * Carries connections between hosts that reach this one and not each other. What it carries is sealed
 * between the two; it sees who they are and how much it is. Blind relaying is that of HyperDHT.
 */
class Relay {
  readonly #relay: Server
  readonly #sessions = new Map<Session, string>()
  readonly #server: ReturnType<DHT['createServer']>
  /** A key of its own: a host has one connection of its own with this one already. */
  readonly #keyPair = DHT.keyPair()
  readonly #isTrusted: (host: string) => boolean

  constructor(dht: DhtNode, isTrusted: (host: string) => boolean) {
    this.#isTrusted = isTrusted
    this.#relay = new Server({ createStream: (options) => dht.createRawStream(options) })
    const firewall = (key: Buffer): boolean =>
      this.#sessions.size >= MOST_SESSIONS || !isTrusted(key.toString('hex'))
    this.#server = dht.createServer({ firewall }, (stream) => {
      const host = stream.remotePublicKey.toString('hex')
      // A host that goes away has nothing to say here.
      stream.on('error', () => {})
      stream.setKeepAlive(5_000)
      const session = this.#relay.accept(stream, { id: stream.remotePublicKey })
      session.on('error', () => {})
      this.#sessions.set(session, host)
      stream.once('close', () => this.#sessions.delete(session))
    })
  }

  get key(): Buffer {
    return this.#keyPair.publicKey
  }

  async start(): Promise<void> {
    await this.#server.listen(this.#keyPair)
  }

  /** Ends what is carried for hosts that are trusted no more. */
  review(): void {
    for (const [session, host] of this.#sessions) if (!this.#isTrusted(host)) end(session)
  }

  async stop(): Promise<void> {
    for (const session of this.#sessions.keys()) end(session)
    await this.#server.close()
  }
}

function end(session: Session): void {
  session.stream.destroy()
  session.destroy()
}

/** Whether this host relays for others, and through whom it reaches those that it does not reach. */
export class Relays {
  readonly #dht: DhtNode
  readonly #isTrusted: (host: string) => boolean
  #own: Relay | null = null
  #starting: Relay | null = null
  #isWanted = false
  #changing: Promise<void> = Promise.resolve()
  /** By host, in hex. */
  readonly #others = new Map<string, Buffer>()
  readonly #told = new Map<Link, Message<Buffer>>()

  /** `isTrusted`: whether any parcel trusts a host, in hex. */
  constructor(dht: DhtNode, isTrusted: (host: string) => boolean) {
    this.#dht = dht
    this.#isTrusted = isTrusted
  }

  /** Where others reach this host's relay; empty: it is none. */
  get key(): Buffer {
    return this.#own?.key ?? Buffer.alloc(0)
  }

  /** Relays for others, or no more. Throws when it cannot be announced. */
  set(isOn: boolean): Promise<void> {
    this.#isWanted = isOn
    // Where nobody answers announcing takes seconds, and what was wanted then may not be any more.
    if (!isOn) this.#starting?.stop().catch(() => {})
    const run = this.#changing.then(() => this.#change())
    this.#changing = run.catch(() => {})
    return run
  }

  async #change(): Promise<void> {
    if (this.#isWanted === (this.#own !== null)) return
    const before = this.#own
    this.#own = null
    if (this.#isWanted) await this.#start()
    for (const message of this.#told.values()) message.send(this.key)
    await before?.stop()
  }

  async #start(): Promise<void> {
    const relay = new Relay(this.#dht, this.#isTrusted)
    this.#starting = relay
    try {
      await relay.start()
      if (this.#isWanted) this.#own = relay
      else await relay.stop()
    } catch (error) {
      await relay.stop().catch(() => {})
      if (this.#isWanted) throw error
    } finally {
      this.#starting = null
    }
  }

  review(): void {
    this.#own?.review()
  }

  /** Tells a host whether this one relays, and learns whether it does. */
  meet(link: Link): void {
    const channel = Protomux.from(link.connection).createChannel({
      protocol: PROTOCOL,
      handshake: raw,
      messages: [{ encoding: raw, onmessage: (key) => this.#learn(link.host, key) }],
      onopen: (key) => this.#learn(link.host, key),
      onclose: () => {
        this.#told.delete(link)
        // At its next start it has another one.
        if (![...this.#told.keys()].some(({ host }) => host === link.host)) {
          this.#others.delete(link.host)
        }
      }
    })
    const [message] = channel?.messages ?? []
    if (channel === null || message === undefined) return
    this.#told.set(link, message)
    channel.open(this.key)
  }

  /** The key of a relay through which a host may be reached that `isShared` says shares a parcel with it. */
  through(isShared: (relay: string) => boolean): Buffer | null {
    const keys = [...this.#others].flatMap(([host, key]) => (isShared(host) ? [key] : []))
    return keys[Math.floor(Math.random() * keys.length)] ?? null
  }

  /** The host, in hex, through which a connection goes; null: through none. */
  of({ host, connection: { rawStream } }: Link): string | null {
    const key = this.#dht.relayOf(rawStream)
    const relay = key === null ? null : this.#hostOf(key)
    // Its own connections come from the same place as what it relays.
    return relay === host ? null : relay
  }

  /** Whether a key is that of a relay which a connected host has said to be its. */
  knows(key: Buffer): boolean {
    return this.#hostOf(key) !== null
  }

  #hostOf(key: Buffer): string | null {
    for (const [host, each] of this.#others) if (each.equals(key)) return host
    return null
  }

  #learn(host: string, key: Buffer): void {
    // A host itself is no relay: to be dialled as one would end the connection that there is with it.
    const isRelay = key.length === KEY_BYTES && !this.#isTrusted(key.toString('hex'))
    if (isRelay) this.#others.set(host, key)
    else this.#others.delete(host)
  }
}
