import NoiseSecretStream from '@hyperswarm/secret-stream'
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { TOKEN_BYTES } from '../format/carrier.js'
import type { KeyPair } from '../keys/identity.js'

/** Whom a token was given to, and what to do when they come. */
export interface Expected {
  host: Buffer
  onStream: (stream: NoiseSecretStream) => void
}

/** Sockets that have not shown who they are; more are refused. */
const MAX_UNKNOWN = 64
/** Until a socket has shown who it is, ms. */
const PATIENCE = 5_000
/** Who comes late with a token that was taken back is not let in, and no stranger either, ms. */
const LATE = 60_000
const KEEP_ALIVE = 2_000
const SILENCE = 20_000

/**
 * Noise streams over TCP between hosts that trust each other already: UDX costs a system call a
 * packet. Who knocks must first say a token, which only a trusted host was told, and then prove
 * its key; until then it gets no answer but the handshake.
 */
export class TcpCarrier {
  readonly #keyPair: KeyPair
  readonly #expected = new Map<string, Expected>()
  /** Tokens that were taken back a short while ago. */
  readonly #past = new Set<string>()
  readonly #unknown = new Set<Socket>()
  readonly #streams = new Set<NoiseSecretStream>()
  readonly #server: Server
  #isClosed = false
  /** Sockets that were ended before they had shown who they are. */
  refused = 0
  /** Nobody is judged before that: it may not be known yet who is trusted. */
  ready: Promise<void> = Promise.resolve()
  /** Whom else a token may be of. */
  recognise: (token: Buffer) => Expected | null = () => null

  /** Listens at `address`, null: all that this machine has, and at `port`, if that is free. */
  constructor(keyPair: KeyPair, address: string | null, port: number | null = null) {
    this.#keyPair = keyPair
    this.#server = createServer({ noDelay: true }, (socket) => this.#onSocket(socket))
    this.#server.unref()
    const at = address === null ? {} : { host: address }
    this.#server.once('error', () => {
      // Where nothing can be listened on there is no port to offer.
      this.#server.on('error', () => {})
      if (port !== null && !this.#isClosed) this.#server.listen({ ...at, port: 0 })
    })
    this.#server.listen({ ...at, port: port ?? 0 })
  }

  /** Where it listens; 0 when it cannot, or not yet. */
  get port(): number {
    const address = this.#server.address()
    return typeof address === 'object' && address !== null ? address.port : 0
  }

  /** Lets the host that says the token in, if it is who it should be. Returns how to stop. */
  expect(token: Buffer, expected: Expected): () => void {
    const name = token.toString('hex')
    this.#expected.set(name, expected)
    return () => {
      if (!this.#expected.delete(name)) return
      this.#past.add(name)
      setTimeout(() => this.#past.delete(name), LATE).unref()
    }
  }

  /** null when nobody answers there, or somebody else. */
  async dial(
    { address, port, ...to }: { address: string; port: number; token: Buffer; host: Buffer },
    signal: AbortSignal
  ): Promise<NoiseSecretStream | null> {
    const socket = await this.connect({ address, port }, signal)
    return socket === null ? null : this.greet(socket, to)
  }

  /** null when nobody listens there. */
  async connect(
    to: { address: string; port: number },
    signal: AbortSignal
  ): Promise<Socket | null> {
    const socket = connect({ host: to.address, port: to.port, noDelay: true, signal })
    socket.on('error', () => {})
    // With an error, or whoever waits for the connection would wait on.
    socket.setTimeout(PATIENCE, () => socket.destroy(new Error('nobody answers')))
    try {
      await once(socket, 'connect', { signal })
      return socket
    } catch {
      return null
    }
  }

  /** Says a token to whoever listens there; null when it is not `host`. */
  greet(socket: Socket, to: { token: Buffer; host: Buffer }): Promise<NoiseSecretStream | null> {
    socket.write(to.token)
    const options = { pattern: 'IK', keyPair: this.#keyPair, remotePublicKey: to.host } as const
    return this.#opened(new NoiseSecretStream(true, socket, options), socket, to.host)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    for (const socket of this.#unknown) socket.destroy()
    for (const stream of this.#streams) stream.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #onSocket(socket: Socket): void {
    socket.on('error', () => {})
    if (this.#unknown.size >= MAX_UNKNOWN || this.#isClosed) {
      this.refused++
      socket.destroy()
      return
    }
    this.#unknown.add(socket)
    // From the first byte on, whatever they send: a slow stranger is gone in time.
    const timer = setTimeout(() => {
      this.refused++
      socket.destroy()
    }, PATIENCE)
    timer.unref()
    socket.once('close', () => {
      clearTimeout(timer)
      this.#unknown.delete(socket)
    })
    let heard = Buffer.alloc(0)
    const onData = (bytes: Buffer): void => {
      heard = Buffer.concat([heard, bytes])
      if (heard.byteLength < TOKEN_BYTES) return
      socket.off('data', onData).pause()
      void this.ready.then(judge)
    }
    const judge = (): void => {
      if (socket.destroyed) return
      const token = heard.subarray(0, TOKEN_BYTES)
      const name = token.toString('hex')
      const expected = this.#expected.get(name) ?? this.recognise(token)
      if (expected === null) {
        if (!this.#past.has(name)) this.refused++
        socket.destroy()
        return
      }
      const options = { pattern: 'IK', keyPair: this.#keyPair } as const
      const stream = new NoiseSecretStream(false, socket, options)
      // A Noise stream drops what comes before it has opened, in this turn of the loop.
      socket.unshift(heard.subarray(TOKEN_BYTES))
      setImmediate(() => socket.resume())
      void this.#opened(stream, socket, expected.host).then((opened) => {
        clearTimeout(timer)
        this.#unknown.delete(socket)
        if (opened !== null) expected.onStream(opened)
      })
    }
    socket.on('data', onData)
  }

  /** The stream once the other side has proved to be `host`; null when it does not. */
  async #opened(
    stream: NoiseSecretStream,
    socket: Socket,
    host: Buffer
  ): Promise<NoiseSecretStream | null> {
    this.#streams.add(stream)
    stream.on('error', () => {})
    stream.once('close', () => this.#streams.delete(stream))
    const isOpen = await stream.opened
    if (!isOpen || this.#isClosed || !stream.remotePublicKey.equals(host)) {
      stream.destroy()
      return null
    }
    socket.setTimeout(0)
    stream.setKeepAlive(KEEP_ALIVE)
    stream.setTimeout(SILENCE)
    return stream
  }
}
