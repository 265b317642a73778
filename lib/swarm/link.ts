import type NoiseSecretStream from '@hyperswarm/secret-stream'
import { raw } from 'compact-encoding'
import type { Duplex } from 'node:stream'
import type { Connection } from 'hyperswarm'
import Protomux, { type Message } from 'protomux'
import { decodeOffer, encodeOffer, TOKEN_BYTES, type CarrierOffer } from '../format/carrier.js'
import { randomBytes } from '../keys/identity.js'
import type { Address } from './addresses.js'
import { watchManners } from './manners.js'
import type { PeerStatus } from '../peer-status.js'
import type { TcpCarrier } from './tcp.js'

export type CarrierName = PeerStatus['carrier']

const PROTOCOL = 'hyperparcel/carrier'
/** Replication waits so long for a better way before it takes the connection itself, ms. */
const HOLD = 700
/** After a change of the network so much silence is taken to have been, ms. */
const DOUBTED = 2_500
/** Until the next try after one that failed, or a way that broke, ms. */
const RETRIES = [5_000, 30_000, 120_000, 600_000]

/**
 * All ways to one host: the connection that found it (UDX, through any NAT) and, where one can
 * reach the other, TCP beside it. Logs go over one of them at a time, `carrier`; everything small
 * stays on the connection. Who has the smaller key dials; when it cannot, it asks the other to.
 */
export class Link {
  readonly host: string
  readonly connection: Connection
  readonly isLocal: boolean
  /** It is TCP itself: there is no better way. */
  readonly isDirect: boolean
  readonly #tcp: TcpCarrier
  readonly #isRelayed: (link: Link) => boolean
  readonly #onRude: (what: string) => void
  readonly #token = randomBytes(TOKEN_BYTES)
  readonly #listeners = new Set<() => void>()
  readonly #end = new AbortController()
  readonly #stopExpecting: () => void
  readonly #holding: NodeJS.Timeout
  #cannot: Message<Buffer> | null = null
  #remote: CarrierOffer | null = null
  #stream: Duplex | null = null
  #direct: NoiseSecretStream | null = null
  /** Bytes that were heard by `#heard`, by `performance.now`. */
  #read = 0
  #heard = performance.now()
  readonly #onReached: (at: Address) => void
  #isDialing = false
  #tries = 0
  #retrying: NodeJS.Timeout | undefined

  /**
   * `isLocal`: both ends are in this process, and there is no better way. `onRude` is told what the
   * host did, on whichever way, that no honest one does.
   */
  constructor(
    connection: Connection,
    tcp: TcpCarrier,
    {
      isLocal = false,
      isDirect = false,
      isRelayed = () => false,
      onRude = () => {},
      onReached = () => {}
    }: {
      isLocal?: boolean
      isDirect?: boolean
      isRelayed?: (link: Link) => boolean
      onRude?: (what: string) => void
      onReached?: (at: Address) => void
    } = {}
  ) {
    this.host = connection.remotePublicKey.toString('hex')
    this.connection = connection
    this.isLocal = isLocal
    this.isDirect = isDirect
    this.#isRelayed = isRelayed
    this.#onRude = onRude
    this.#onReached = onReached
    watchManners(connection, onRude)
    this.#tcp = tcp
    const expected = {
      host: connection.remotePublicKey,
      onStream: (stream: NoiseSecretStream) => this.#adopt(stream)
    }
    this.#stopExpecting = tcp.expect(this.#token, expected)
    this.#holding = setTimeout(() => this.#choose(), HOLD)
    connection.once('close', () => this.#close())
    if (isLocal || isDirect) this.#choose()
    if (!isLocal) this.#offer()
  }

  /** Where the other side is, as far as the network shows it. */
  get address(): string {
    const { remoteHost, remoteAddress } = this.connection.rawStream
    return plain(remoteHost ?? remoteAddress ?? '')
  }

  /** Whether the connection goes by way of a third host, which is then what the network shows. */
  get isRelayed(): boolean {
    return this.#direct === null && !this.isDirect && this.#isRelayed(this)
  }

  /** For how long nothing was heard, ms, as far as it was looked. */
  silence(now = performance.now()): number {
    const read = this.connection.rawBytesRead + (this.#direct?.rawBytesRead ?? 0)
    if (read !== this.#read) {
      this.#read = read
      this.#heard = now
    }
    return now - this.#heard
  }

  /** The machine has other addresses now: what goes from one that it had goes nowhere. */
  doubt(addresses: ReadonlySet<string>): void {
    const now = performance.now()
    this.silence(now)
    const socket = (this.#direct ?? this.connection).rawStream
    const from = socket.localAddress
    const isGone = from !== undefined && plain(from) !== '127.0.0.1' && !addresses.has(plain(from))
    // What is well is heard again soon.
    this.#heard = Math.min(this.#heard, isGone ? -Infinity : now - DOUBTED)
  }

  get #isDialer(): boolean {
    const { publicKey, remotePublicKey } = this.connection
    return Buffer.compare(publicKey, remotePublicKey) < 0
  }

  /** What logs go over now; null as long as that is open. */
  get carrier(): Duplex | null {
    return this.#stream
  }

  get carrierName(): CarrierName {
    if (this.isLocal) return 'local'
    return this.#direct === null && !this.isDirect ? 'udx' : 'tcp'
  }

  /** Calls back when `carrier` is another one. Returns how to stop. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #offer(): void {
    const channel = Protomux.from(this.connection).createChannel({
      protocol: PROTOCOL,
      handshake: raw,
      messages: [{ encoding: raw, onmessage: () => this.#dial() }],
      onopen: (bytes) => this.#onOffer(bytes),
      onclose: () => {}
    })
    this.#cannot = channel?.messages[0] ?? null
    channel?.open(encodeOffer({ port: this.#tcp.port, token: this.#token }))
  }

  #onOffer(bytes: Buffer): void {
    try {
      this.#remote = decodeOffer(bytes)
    } catch {
      // What cannot be read offers nothing; the connection itself goes on.
      this.#choose()
      return
    }
    if (this.isDirect) {
      this.#noteReached(this.connection)
      return
    }
    if (this.#isDialer) this.#dial()
  }

  #noteReached({ rawStream }: Pick<Connection, 'rawStream'>): void {
    const { remoteAddress } = rawStream
    const port = this.#remote?.port ?? 0
    if (remoteAddress !== undefined && port > 0) {
      this.#onReached({ address: plain(remoteAddress), port })
    }
  }

  #dial(): void {
    const { remoteHost } = this.connection.rawStream
    if (this.isDirect || this.#direct !== null || this.#remote === null || this.#isDialing) return
    if (this.#end.signal.aborted) return
    const { port, token } = this.#remote
    const fail = (): void => {
      if (this.#end.signal.aborted || this.#direct !== null) return
      // The smaller key's side dials, asks the other side to, and sees to the next try.
      if (!this.#isDialer) return
      this.#cannot?.send(Buffer.alloc(0))
      const delay = RETRIES[Math.min(this.#tries++, RETRIES.length - 1)]
      clearTimeout(this.#retrying)
      this.#retrying = setTimeout(() => this.#dial(), delay)
      this.#retrying.unref()
    }
    if (port === 0 || remoteHost === undefined || this.#isRelayed(this)) {
      fail()
      return
    }
    const to = { address: remoteHost, port, token, host: this.connection.remotePublicKey }
    this.#isDialing = true
    void this.#tcp.dial(to, this.#end.signal).then((stream) => {
      this.#isDialing = false
      if (stream === null) fail()
      else this.#adopt(stream)
    })
  }

  #adopt(stream: NoiseSecretStream): void {
    if (this.#end.signal.aborted || stream.destroyed) {
      stream.destroy()
      return
    }
    // A new one is there because the other side has lost the one before.
    const before = this.#direct
    this.#direct = stream
    this.#noteReached(stream)
    watchManners(stream, this.#onRude)
    stream.once('close', () => {
      if (this.#direct !== stream) return
      this.#direct = null
      this.#choose()
      // One side alone tries again, or both would end what the other has begun.
      if (!this.#isDialer) return
      this.#retrying = setTimeout(() => this.#dial(), RETRIES[0])
      this.#retrying.unref()
    })
    this.#choose()
    before?.destroy()
  }

  #choose(): void {
    clearTimeout(this.#holding)
    const stream = this.#direct ?? this.connection
    if (this.#stream === stream || this.#end.signal.aborted) return
    this.#stream = stream
    for (const listener of this.#listeners) listener()
  }

  #close(): void {
    this.#end.abort()
    this.#stopExpecting()
    clearTimeout(this.#holding)
    clearTimeout(this.#retrying)
    this.#direct?.destroy()
  }
}

/** An IPv4 address as such. */
function plain(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, '')
}
