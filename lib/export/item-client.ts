import { spawn } from 'node:child_process'
import type { Socket } from 'node:net'
import { setTimeout } from 'node:timers/promises'
import { OpenedPacks } from '../chunk/opened-packs.js'
import { isRevivable, ParcelError } from '../errors.js'
import type { Place } from '../format/entry.js'
import { decodeMetaRecord, type Places } from '../format/meta-record.js'
import { decodeVersion, type Version } from '../format/version.js'
import type { ItemSource } from '../image/items.js'
import { Incoming } from '../incoming.js'
import { connectTo } from '../local-socket.js'
import {
  ANSWER,
  decodeAnswer,
  encodeQuestion,
  message,
  QUESTION,
  takeMessage
} from './item-protocol.js'
import type { Touched } from './working-set.js'

/** Where items come from. */
export interface ItemsAddress {
  socket: string
  /** Parcel and version, in hex. */
  parcel: string
  version: string
  /** Whether the rest is fetched in the background meanwhile. */
  prefetch: boolean
  /** Starts the process that listens on the socket, should it have ended: program and arguments. */
  start: string[]
}

/** What a version is served by, each in base64. */
interface Records {
  version: string
  places: string
  trace: string | null
}

/** Opened packs kept, of up to 1 MiB each. */
const CACHED = 24
/** Items kept that came without their pack, of up to 64 KiB each: other pages of them are wanted next. */
const LONE = 256
const RETRY = 200
/** A daemon that does not come up is started again after so long, ms. */
const START_AGAIN = 5_000

interface Waiting {
  place: Place
  id: Buffer | null
  resolve: (supply: { kind: number; body: Buffer }) => void
  reject: (error: Error) => void
}

/**
 * The items of a version, from the process that has the store. When that ends, as after its idle
 * minutes or a kill, it is started again and asked again: whoever reads an image only waits.
 */
export class ItemClient implements ItemSource {
  readonly version: Version
  readonly places: Places
  /** What is known to be wanted first. */
  readonly known: Touched | null
  readonly #address: ItemsAddress
  readonly #packs = new OpenedPacks(CACHED)
  /** By their ids, in hex. */
  readonly #lone = new Map<string, Buffer>()
  readonly #waiting = new Map<number, Waiting>()
  #socket: Socket | null = null
  #next = 1
  #lastStart = -Infinity
  #isClosed = false
  /** Packs and items that were asked for. */
  asked = 0

  private constructor(
    address: ItemsAddress,
    version: Version,
    places: Places,
    known: Touched | null
  ) {
    this.known = known
    this.#address = address
    this.version = version
    this.places = places
  }

  /** Throws UNKNOWN_PARCEL, UNKNOWN_VERSION, UNREACHABLE. */
  static async connect(address: ItemsAddress): Promise<ItemClient> {
    const { socket, incoming, answer } = await hello(address)
    if (!isRecords(answer)) throw new ParcelError('FAILED', 'the daemon is of another hyperparcel')
    const { version, places, trace } = answer
    const record = decodeMetaRecord(Buffer.from(places, 'base64'))
    if (record.type !== 'places') throw new ParcelError('INTEGRITY', 'a version without places')
    const decoded = decodeVersion(Buffer.from(version, 'base64'))
    const client = new ItemClient(address, decoded, record.places, knownOf(trace))
    client.#use(socket, incoming)
    return client
  }

  /** What is asked for and has not come. */
  get waiting(): number {
    return this.#waiting.size
  }

  async read(place: Place, id?: Buffer): Promise<Buffer> {
    if (id === undefined || this.#packs.has(place)) {
      const bytes = await this.#packs.read(place, () => this.#pack(place, null)).catch(nullIfNoPack)
      if (bytes !== null) return bytes
      // What was on its way was another item alone.
      if (id === undefined) return this.read(place)
    }
    const name = id.toString('hex')
    const lone = this.#lone.get(name)
    if (lone !== undefined) return lone
    let item: Buffer | null = null
    const bytes = await this.#packs
      .read(place, async () => {
        const { kind, body } = await this.#ask(place, id)
        if (kind === ANSWER.pack) return body
        item = body
        this.#keep(name, body)
        throw new NoPack()
      })
      .catch(nullIfNoPack)
    if (bytes !== null) return bytes
    // Whoever waited beside for another item of the pack asks for its own.
    return item ?? this.read(place, id)
  }

  /** Everything that waits fails with INTERRUPTED. */
  close(): void {
    this.#isClosed = true
    this.#socket?.destroy()
    this.#failAll()
  }

  #keep(name: string, item: Buffer): void {
    this.#lone.set(name, item)
    const oldest = this.#lone.size > LONE ? this.#lone.keys().next().value : undefined
    if (oldest !== undefined) this.#lone.delete(oldest)
  }

  async #pack(place: Place, id: Buffer | null): Promise<Buffer> {
    const { kind, body } = await this.#ask(place, id)
    if (kind !== ANSWER.pack) throw new ParcelError('INTEGRITY', 'an answer of another kind')
    return body
  }

  #ask(place: Place, id: Buffer | null): Promise<{ kind: number; body: Buffer }> {
    return new Promise((resolve, reject) => {
      if (this.#isClosed) {
        reject(interrupted())
        return
      }
      const number = this.#next++ >>> 0
      this.asked++
      this.#waiting.set(number, { place, id, resolve, reject })
      this.#send(number)
    })
  }

  #send(number: number): void {
    const waiting = this.#waiting.get(number)
    if (this.#socket === null || waiting === undefined) return
    const { place, id } = waiting
    const { core, block, ordinal } = place
    this.#socket.write(
      message(encodeQuestion({ kind: QUESTION.read, number, core, block, ordinal, id }))
    )
  }

  #use(socket: Socket, incoming: Incoming): void {
    this.#socket = socket
    for (const number of this.#waiting.keys()) this.#send(number)
    void this.#listen(incoming).finally(() => {
      socket.destroy()
      if (this.#socket === socket) this.#socket = null
      if (!this.#isClosed) void this.#reconnect()
    })
  }

  async #listen(incoming: Incoming): Promise<void> {
    for (;;) {
      const bytes = await takeMessage(incoming)
      const answer = bytes === null ? null : decodeAnswer(bytes)
      if (answer === null) return
      const { kind, number, body } = answer
      const waiting = this.#waiting.get(number)
      if (waiting === undefined) continue
      if (kind !== ANSWER.error) {
        this.#waiting.delete(number)
        waiting.resolve({ kind, body })
        continue
      }
      const error = ParcelError.revive(failureOf(body))
      // The daemon is going down: the next one is asked.
      if (error.code === 'INTERRUPTED') continue
      this.#waiting.delete(number)
      waiting.reject(error)
    }
  }

  async #reconnect(): Promise<void> {
    while (!this.#isClosed) {
      try {
        const { socket, incoming } = await hello(this.#address)
        if (this.#isClosed) socket.destroy()
        else this.#use(socket, incoming)
        return
      } catch {
        this.#start()
        await setTimeout(RETRY)
      }
    }
  }

  #start(): void {
    const [program, ...args] = this.#address.start
    if (program === undefined || performance.now() - this.#lastStart < START_AGAIN) return
    this.#lastStart = performance.now()
    const child = spawn(program, args, { detached: true, cwd: '/', stdio: FOUR_IGNORED })
    child.on('error', () => {})
    child.unref()
  }

  #failAll(): void {
    for (const { reject } of this.#waiting.values()) reject(interrupted())
    this.#waiting.clear()
  }
}

/** A daemon says on descriptor 3 that it is ready; nobody listens here. */
const FOUR_IGNORED: ['ignore', 'ignore', 'ignore', 'ignore'] = [
  'ignore',
  'ignore',
  'ignore',
  'ignore'
]

function knownOf(text: string | null): Touched | null {
  const record = text === null ? null : decodeMetaRecord(Buffer.from(text, 'base64'))
  if (record?.type !== 'trace') return null
  const { files, touched } = record.trace
  return {
    files: files.map((path) => path.toString()),
    touched: touched.map(({ file, chunk, pages }) => [file, chunk, pages])
  }
}

/** The item came without its pack. */
class NoPack extends Error {}

function nullIfNoPack(error: unknown): null {
  if (error instanceof NoPack) return null
  throw error
}

async function hello({
  socket: path,
  parcel,
  version,
  prefetch
}: ItemsAddress): Promise<{ socket: Socket; incoming: Incoming; answer: unknown }> {
  const socket = await connectTo(path).catch((error: unknown) => {
    throw ParcelError.from(error, 'cannot reach the daemon')
  })
  socket.on('error', () => socket.destroy())
  const incoming = new Incoming(socket)
  socket.write(message(Buffer.from(JSON.stringify({ parcel, version, prefetch }))))
  const bytes = await takeMessage(incoming)
  if (bytes === null) {
    socket.destroy()
    throw new ParcelError('FAILED', 'the daemon hung up')
  }
  const answer: unknown = JSON.parse(bytes.toString())
  if (!isRevivable(answer)) return { socket, incoming, answer }
  socket.destroy()
  throw ParcelError.revive(answer)
}

function failureOf(body: Buffer): { code: string; message: string } {
  const unreadable = {
    code: 'FAILED',
    message: 'the daemon cannot read an item, and does not say why'
  }
  try {
    const said: unknown = JSON.parse(body.toString())
    return isRevivable(said) ? said : unreadable
  } catch {
    return unreadable
  }
}

/** By hand: a machine that is resumed would wait for a schema's code to be loaded. */
function isRecords(value: unknown): value is Records {
  if (typeof value !== 'object' || value === null) return false
  if (!('version' in value && 'places' in value && 'trace' in value)) return false
  const isTrace = value.trace === null || typeof value.trace === 'string'
  return typeof value.version === 'string' && typeof value.places === 'string' && isTrace
}

function interrupted(): ParcelError {
  return new ParcelError('INTERRUPTED', 'the images are being closed')
}
