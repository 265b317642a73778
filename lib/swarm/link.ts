import { raw } from 'compact-encoding'
import type { Duplex } from 'node:stream'
import type { Connection } from 'hyperswarm'
import Protomux, { type Message } from 'protomux'
import { decodeOffer, encodeOffer, TOKEN_BYTES, type CarrierOffer } from '../format/carrier.js'
import { randomBytes } from '../keys/identity.js'
import { watchManners } from './manners.js'
import type { PeerStatus } from '../peer-status.js'
import type { TcpCarrier } from './tcp.js'

export type CarrierName = PeerStatus['carrier']

const PROTOCOL = 'hyperparcel/carrier'
/** Replication waits so long for a better way before it takes the connection itself, ms. */
const HOLD = 700
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
  readonly #tcp: TcpCarrier
  readonly #onRude: (what: string) => void
  readonly #token = randomBytes(TOKEN_BYTES)
  readonly #listeners = new Set<() => void>()
  readonly #end = new AbortController()
  readonly #stopExpecting: () => void
  readonly #holding: NodeJS.Timeout
  #cannot: Message<Buffer> | null = null
  #remote: CarrierOffer | null = null
  #stream: Duplex | null = null
  #direct: Duplex | null = null
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
      onRude = () => {}
    }: { isLocal?: boolean; onRude?: (what: string) => void } = {}
  ) {
    this.host = connection.remotePublicKey.toString('hex')
    this.connection = connection
    this.isLocal = isLocal
    this.#onRude = onRude
    watchManners(connection, onRude)
    this.#tcp = tcp
    const expected = {
      host: connection.remotePublicKey,
      onStream: (stream: Duplex) => this.#adopt(stream)
    }
    this.#stopExpecting = tcp.expect(this.#token, expected)
    this.#holding = setTimeout(() => this.#choose(), HOLD)
    connection.once('close', () => this.#close())
    if (isLocal) this.#choose()
    else this.#offer()
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
    return this.#direct === null ? 'udx' : 'tcp'
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
    if (this.#isDialer) this.#dial()
  }

  #dial(): void {
    const { remoteHost } = this.connection.rawStream
    if (this.#direct !== null || this.#remote === null || this.#isDialing) return
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
    if (port === 0 || remoteHost === undefined) {
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

  #adopt(stream: Duplex): void {
    if (this.#end.signal.aborted || stream.destroyed) {
      stream.destroy()
      return
    }
    // A new one is there because the other side has lost the one before.
    const before = this.#direct
    this.#direct = stream
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
