import { raw } from 'compact-encoding'
import type { Duplex } from 'node:stream'
import Protomux, { type Message } from 'protomux'
import { ParcelError } from '../errors.js'
import {
  decodeAnnouncements,
  decodeHeads,
  decodeHello,
  encodeAnnouncements,
  encodeHeads,
  encodeHello,
  negotiate,
  PROTOCOL_MAX,
  PROTOCOL_MIN
} from '../format/wire.js'
import { keyedHash } from '../keys/hash.js'
import { NS } from '../keys/namespaces.js'
import type { Log } from '../log/log.js'
import { SOFTWARE } from '../software.js'
import type { Link } from './link.js'
import { Questions } from './questions.js'
import type { SharedParcel } from './shared-parcel.js'

export const PROTOCOL = 'hyperparcel'

const MAX_ANNOUNCEMENT = 16_384

/** The channel's name on a connection; only hosts that know the parcel can make it. */
export function channelId(parcel: Buffer): Buffer {
  return keyedHash(NS.channel, parcel)
}

/** What a channel needs of a link. */
type Way = Pick<Link, 'host' | 'connection' | 'carrier' | 'onChange'>

/**
 * One parcel with one host: replicates its logs over whichever way the link has, passes on who
 * writes which, and says which versions are the newest here. Opened only for a host that the
 * parcel trusts.
 */
export class ParcelChannel {
  readonly host: string
  /** When it was opened, by `performance.now`. */
  readonly opened = performance.now()
  /** Software of the other side; null until it has said hello. */
  software: string | null = null
  /** Why nothing can be exchanged, for `status`; null when all is well. */
  refusal: string | null = null
  /** Asks the other side, and answers it. */
  readonly questions: Questions
  readonly #parcel: SharedParcel
  readonly #link: Way
  readonly #stops: readonly (() => void)[]
  readonly #announce: Message<Buffer>
  readonly #heads: Message<Buffer>
  readonly #close: () => void
  /** What logs go over, and which do. */
  #carrier: Duplex | null = null
  readonly #replicated = new Map<string, Log>()
  readonly #announced = new Set<string>()
  #sentHeads = ''
  #remoteHeads: Buffer[] | null = null
  #isReady = false

  /** null when the channel is open already. */
  static open(parcel: SharedParcel, link: Way, onClose: () => void): ParcelChannel | null {
    const handlers: { channel: ParcelChannel | null } = { channel: null }
    const opened = Protomux.from(link.connection).createChannel({
      protocol: PROTOCOL,
      id: channelId(parcel.id),
      handshake: raw,
      messages: [
        { encoding: raw, onmessage: (bytes) => handlers.channel?.onAnnouncements(bytes) },
        { encoding: raw, onmessage: (bytes) => handlers.channel?.onHeads(bytes) },
        { encoding: raw, onmessage: (bytes) => handlers.channel?.onQuestion(bytes) },
        { encoding: raw, onmessage: (bytes) => handlers.channel?.onAnswer(bytes) }
      ],
      onopen: (hello) => handlers.channel?.onHello(hello),
      onclose: () => {
        handlers.channel?.stop()
        onClose()
      },
      ondrain: () => handlers.channel?.questions.onDrain()
    })
    if (opened === null) return null
    const [announce, heads, question, answer] = opened.messages
    if (!announce || !heads || !question || !answer) throw new Error('four messages were asked for')
    const close = (): void => opened.close()
    handlers.channel = new ParcelChannel(parcel, link, { announce, heads, question, answer }, close)
    opened.open(encodeHello({ min: PROTOCOL_MIN, max: PROTOCOL_MAX, software: SOFTWARE }))
    return handlers.channel
  }

  private constructor(
    parcel: SharedParcel,
    link: Way,
    messages: Record<'announce' | 'heads' | 'question' | 'answer', Message<Buffer>>,
    close: () => void
  ) {
    this.host = link.host
    this.#parcel = parcel
    this.#link = link
    this.#announce = messages.announce
    this.#heads = messages.heads
    this.questions = new Questions(parcel, link.host, {
      ask: (bytes) => messages.question.send(bytes),
      answer: (bytes) => messages.answer.send(bytes)
    })
    this.#close = close
    const update = (): void => this.#update()
    this.#stops = [parcel.onChange(update), link.onChange(update)]
  }

  /** Whether anything can be exchanged. */
  get isReady(): boolean {
    return this.#isReady
  }

  /** Whether the other side has said what its newest versions are, and they are known here. */
  get isCaughtUp(): boolean {
    return this.#remoteHeads?.every((id) => this.#parcel.knows(id)) === true
  }

  stop(): void {
    for (const stop of this.#stops) stop()
    this.#isReady = false
    this.questions.close()
    this.#carry(null)
  }

  close(): void {
    this.stop()
    this.#close()
  }

  onHello(bytes: Buffer): void {
    this.#guard(() => {
      const hello = decodeHello(bytes)
      this.software = hello.software
      if (negotiate(hello) === null) {
        this.refusal = `speaks another protocol (${hello.software}): update the older of the two`
        return
      }
      this.#isReady = true
      this.#update()
    })
  }

  onAnnouncements(bytes: Buffer): void {
    this.#guard(() => {
      if (bytes.byteLength > MAX_ANNOUNCEMENT) {
        throw new ParcelError('INTEGRITY', 'an announcement is too long')
      }
      this.#parcel.peers.announce(decodeAnnouncements(bytes)).catch((error: unknown) => {
        this.#refuse(error)
      })
    })
  }

  onHeads(bytes: Buffer): void {
    this.#guard(() => {
      this.#remoteHeads = decodeHeads(Buffer.from(bytes))
      this.#parcel.peers.heardFrom(this.host)
    })
  }

  onQuestion(bytes: Buffer): void {
    this.#guard(() => this.questions.onQuestion(bytes))
  }

  onAnswer(bytes: Buffer): void {
    this.#guard(() => this.questions.onAnswer(bytes))
  }

  #update(): void {
    if (!this.#isReady) return
    this.#carry(this.#link.carrier)
    for (const record of this.#parcel.peers.announcements()) {
      const name = record.signature.toString('hex')
      if (this.#announced.has(name)) continue
      this.#announced.add(name)
      this.#announce.send(encodeAnnouncements([record]))
    }
    const heads = encodeHeads(this.#parcel.headIds())
    if (heads.toString('latin1') !== this.#sentHeads) {
      this.#sentHeads = heads.toString('latin1')
      this.#heads.send(heads)
    }
  }

  /** Replicates all logs over a stream, and over no other: one core never goes two ways at once. */
  #carry(carrier: Duplex | null): void {
    if (this.#carrier !== carrier) {
      for (const log of this.#replicated.values()) {
        if (this.#carrier !== null) log.stopReplicating(this.#carrier)
      }
      this.#replicated.clear()
      this.#carrier = carrier
    }
    if (carrier === null) return
    const logs = this.#parcel.replicated()
    const names = new Set(logs.map(({ key }) => key.toString('hex')))
    for (const [name, log] of this.#replicated) {
      if (names.has(name)) continue
      this.#replicated.delete(name)
      log.stopReplicating(carrier)
    }
    for (const log of logs) {
      const name = log.key.toString('hex')
      // It may have been opened anew.
      if (this.#replicated.get(name) === log) continue
      this.#replicated.set(name, log)
      log.replicate(carrier)
    }
  }

  /** What a peer sent is not as it should be: this channel ends, the rest goes on. */
  #guard(work: () => void): void {
    try {
      work()
    } catch (error) {
      this.#refuse(error)
    }
  }

  #refuse(error: unknown): void {
    this.refusal = ParcelError.from(error).message
    this.#parcel.problem(this.host, this.refusal)
    this.close()
  }
}
