import { timingSafeEqual } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { SUBPAGE_SIZE } from '../format/limits.js'
import { Incoming } from '../incoming.js'
import { listenOn, requireFreeSocket } from '../local-socket.js'
import {
  ALLOCATION_ID,
  MOST_BYTES,
  shakeHands,
  type Agreed,
  type NbdExports
} from './nbd-handshake.js'
import {
  ALLOCATION,
  COMMAND,
  COMMAND_FLAG,
  dataReply,
  doneReply,
  ERROR,
  errorReply,
  readRequest,
  REQUEST_BYTES,
  simpleReply,
  statusReply,
  TRANSMISSION,
  type Request
} from './nbd-protocol.js'
import type { Volume } from '../image/volume.js'

/** Bytes of requests under way for one client, before no more is read from it. */
const MOST_IN_FLIGHT = 64 * 1_048_576
const MOST_REQUESTS = 256
/** Of a longer range a client is told the beginning, and asks again. */
const STATUS_BYTES = 256 * 1_048_576
/** A client that does not get as far as a request is left after so long, ms. */
const HANDSHAKE_LIMIT = 30_000

/**
 * Serves volumes as network block devices, each under a name, to any number of clients, on a unix
 * socket or on loopback TCP. NBD knows no passwords: over TCP a token stands in front of each
 * export's name, and names are not listed.
 */
export class NbdServer {
  readonly #server: Server
  readonly #exports: NbdExports
  readonly #sockets = new Set<Socket>()

  private constructor(volumes: ReadonlyMap<string, Volume>, isReadOnly: boolean, token: string) {
    const flags = isReadOnly ? READ_ONLY : WRITABLE
    this.#exports = {
      list: () => (token === '' ? [...volumes.keys()] : null),
      find: (name) => {
        const path = afterToken(name, token)
        const [first] = volumes.values()
        const volume =
          path === null ? undefined : (volumes.get(path) ?? (path === '' ? first : undefined))
        return volume === undefined ? null : { name, volume, flags }
      }
    }
    this.#server = createServer((socket) => void this.#serve(socket))
  }

  /** Clients without a name for what they want get the first. Only this user can connect. */
  static async onSocket(
    path: string,
    volumes: ReadonlyMap<string, Volume>,
    { isReadOnly = false } = {}
  ): Promise<NbdServer> {
    const server = new NbdServer(volumes, isReadOnly, '')
    await requireFreeSocket(path)
    await listenOn(server.#server, path)
    return server
  }

  /** On 127.0.0.1; exports are called `TOKEN/PATH`. */
  static async onLoopback(
    { port, token }: { port: number; token: string },
    volumes: ReadonlyMap<string, Volume>,
    { isReadOnly = false } = {}
  ): Promise<NbdServer> {
    if (token === '') throw new TypeError('on TCP a token is needed')
    const server = new NbdServer(volumes, isReadOnly, token)
    server.#server.listen(port, '127.0.0.1')
    await once(server.#server, 'listening')
    return server
  }

  /** The TCP port; 0 on a unix socket. */
  get port(): number {
    const address: AddressInfo | string | null = this.#server.address()
    return address === null || typeof address === 'string' ? 0 : address.port
  }

  /** Clients that are connected. */
  get clients(): number {
    return this.#sockets.size
  }

  /** Hangs up on everybody; what has been acknowledged stays. */
  async close(): Promise<void> {
    const closed = once(this.#server, 'close')
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }

  async #serve(socket: Socket): Promise<void> {
    this.#sockets.add(socket)
    socket.once('close', () => this.#sockets.delete(socket))
    socket.on('error', () => socket.destroy())
    socket.setNoDelay(true)
    const incoming = new Incoming(socket)
    try {
      const timer = setTimeout(() => socket.destroy(), HANDSHAKE_LIMIT)
      const client = { take: (count: number) => incoming.take(count), send: sender(socket) }
      const agreed = await shakeHands(client, this.#exports).finally(() => clearTimeout(timer))
      if (agreed !== null) await new Session(socket, incoming, agreed).run()
    } catch {
      // Whatever a client did, it is only its own connection that ends.
    }
    socket.end()
    socket.destroySoon()
  }
}

const WRITABLE =
  TRANSMISSION.hasFlags |
  TRANSMISSION.sendFlush |
  TRANSMISSION.sendFua |
  TRANSMISSION.sendTrim |
  TRANSMISSION.sendWriteZeroes |
  TRANSMISSION.sendDf |
  TRANSMISSION.multiConn |
  TRANSMISSION.sendCache
const READ_ONLY =
  TRANSMISSION.hasFlags |
  TRANSMISSION.readOnly |
  TRANSMISSION.sendFlush |
  TRANSMISSION.sendDf |
  TRANSMISSION.multiConn |
  TRANSMISSION.sendCache

/** One client after its handshake: requests in, replies out in any order. */
class Session {
  readonly #socket: Socket
  readonly #incoming: Incoming
  readonly #agreed: Agreed
  readonly #send: (bytes: Buffer) => void
  #requests = 0
  #bytes = 0
  #wake: () => void = () => {}

  constructor(socket: Socket, incoming: Incoming, agreed: Agreed) {
    this.#socket = socket
    this.#incoming = incoming
    this.#agreed = agreed
    this.#send = sender(socket)
    for (const event of ['drain', 'close']) socket.on(event, () => this.#wake())
  }

  /** Until the client has left and all that it asked for is done. */
  async run(): Promise<void> {
    for (;;) {
      await this.#room()
      // Nobody waits any more for what it has asked for.
      if (this.#socket.destroyed) break
      const head = await this.#incoming.take(REQUEST_BYTES)
      const request = head === null ? null : readRequest(head)
      if (request === null || request.type === COMMAND.disconnect) break
      const { type, length } = request
      const isWrite = type === COMMAND.write
      // What follows could not be told from payload: there is no going on.
      if (isWrite && length > MOST_BYTES) break
      const payload = isWrite ? await this.#incoming.take(length) : null
      if (isWrite && payload === null) break
      const held = isWrite || type === COMMAND.read ? Math.min(length, MOST_BYTES) : 0
      this.#requests++
      this.#bytes += held
      void this.#answer(request, payload).finally(() => {
        this.#requests--
        this.#bytes -= held
        this.#wake()
      })
    }
    while (this.#requests > 0) await new Promise<void>((resolve) => (this.#wake = resolve))
  }

  async #room(): Promise<void> {
    while (
      this.#requests >= MOST_REQUESTS ||
      this.#bytes >= MOST_IN_FLIGHT ||
      this.#socket.writableLength >= MOST_IN_FLIGHT
    ) {
      if (this.#socket.destroyed) return
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }

  async #answer(request: Request, payload: Buffer | null): Promise<void> {
    try {
      const error = this.#problem(request)
      if (error === 0) await this.#carryOut(request, payload)
      else this.#fail(request, error)
    } catch (failure) {
      this.#fail(request, errorOf(failure))
    }
  }

  /** What is wrong with a request by itself; 0: nothing. */
  #problem({ type, flags, offset, length }: Request): number {
    const { exported, hasStatus } = this.#agreed
    const allowed = ALLOWED_FLAGS.get(type)
    if (allowed === undefined || (flags & ~allowed) !== 0) return ERROR.invalid
    if (type === COMMAND.flush) return offset === 0n && length === 0 ? 0 : ERROR.invalid
    const isChange = type === COMMAND.write || type === COMMAND.trim || type === COMMAND.writeZeroes
    if (isChange && (exported.flags & TRANSMISSION.readOnly) !== 0) return ERROR.permission
    if (type === COMMAND.read && length > MOST_BYTES) return ERROR.overflow
    if (type === COMMAND.blockStatus && (!hasStatus || length === 0)) return ERROR.invalid
    if (offset + BigInt(length) <= BigInt(exported.volume.size)) return 0
    return isChange && type !== COMMAND.trim ? ERROR.noSpace : ERROR.invalid
  }

  async #carryOut(request: Request, payload: Buffer | null): Promise<void> {
    const { type, flags, cookie, length } = request
    const { volume } = this.#agreed.exported
    const offset = Number(request.offset)
    if (type === COMMAND.read) {
      const bytes = await volume.read(offset, length)
      if (bytes.byteLength !== length) throw new Error('the volume became shorter')
      const isStructured = this.#agreed.isStructured
      this.#socket.cork()
      this.#send(isStructured ? dataReply(cookie, request.offset, length) : simpleReply(cookie, 0))
      if (length > 0) this.#send(bytes)
      this.#socket.uncork()
      return
    }
    if (type === COMMAND.blockStatus) {
      const asked = Math.min(length, STATUS_BYTES)
      const found = await volume.stretches(offset, asked)
      const few = (flags & COMMAND_FLAG.reqOne) === 0 ? found : found.slice(0, 1)
      const extents = few.map(({ length, isHole }): [number, number] => [
        length,
        isHole ? ALLOCATION.hole | ALLOCATION.zero : 0
      ])
      this.#send(statusReply(cookie, ALLOCATION_ID, extents))
      return
    }
    if (type === COMMAND.write && payload !== null) await volume.write(offset, payload)
    else if (type === COMMAND.writeZeroes) await volume.zero(offset, length)
    else if (type === COMMAND.trim) await trim(volume, offset, length)
    else if (type === COMMAND.cache) await cache(volume, offset, length)
    if (type === COMMAND.flush || (flags & COMMAND_FLAG.fua) !== 0) await volume.flush()
    this.#send(this.#agreed.isStructured ? doneReply(cookie) : simpleReply(cookie, 0))
  }

  #fail({ cookie, type }: Request, error: number): void {
    const mustBe =
      this.#agreed.isStructured && (type === COMMAND.read || type === COMMAND.blockStatus)
    this.#send(mustBe ? errorReply(cookie, error) : simpleReply(cookie, error))
  }
}

const ALLOWED_FLAGS = new Map<number, number>([
  [COMMAND.read, COMMAND_FLAG.df],
  [COMMAND.write, COMMAND_FLAG.fua],
  [COMMAND.flush, 0],
  [COMMAND.trim, COMMAND_FLAG.fua],
  [COMMAND.cache, 0],
  [COMMAND.writeZeroes, COMMAND_FLAG.fua | COMMAND_FLAG.noHole],
  [COMMAND.blockStatus, COMMAND_FLAG.reqOne]
])

/** A hint: only whole pages are worth it. */
async function trim(volume: Volume, offset: number, length: number): Promise<void> {
  const start = Math.ceil(offset / SUBPAGE_SIZE) * SUBPAGE_SIZE
  const end = offset + length
  const stop = end === volume.size ? end : end - (end % SUBPAGE_SIZE)
  if (stop > start) await volume.zero(start, stop - start)
}

/** A hint to have a range at hand: here, to have fetched it. */
async function cache(volume: Volume, offset: number, length: number): Promise<void> {
  for (let at = offset; at < offset + length; at += 1_048_576) {
    await volume.read(at, Math.min(1_048_576, offset + length - at))
  }
}

/** The path in an export's name, if the token in front of it is right. */
function afterToken(name: string, token: string): string | null {
  if (token === '') return name
  const at = name.indexOf('/')
  const [given, wanted] = [Buffer.from(name.slice(0, Math.max(at, 0))), Buffer.from(token)]
  const isRight = given.byteLength === wanted.byteLength && timingSafeEqual(given, wanted)
  return isRight ? name.slice(at + 1) : null
}

function errorOf(failure: unknown): number {
  const code = failure instanceof Error && 'code' in failure ? failure.code : ''
  if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'DISK_FULL') return ERROR.noSpace
  if (code === 'INTERRUPTED') return ERROR.shutdown
  return ERROR.io
}

function sender(socket: Socket): (bytes: Buffer) => void {
  return (bytes) => {
    if (!socket.destroyed) socket.write(bytes)
  }
}
