import type { Connection } from 'hyperswarm'
import Protomux, { type Message } from 'protomux'
import { raw } from 'compact-encoding'
import {
  decodeJoinReplies,
  decodeJoinRequest,
  encodeJoinReplies,
  encodeJoinRequest,
  type JoinReply,
  type JoinRequest
} from '../format/pairing.js'
import { HASH_BYTES, NONCE_BYTES } from '../format/limits.js'
import { Cpace, type Share } from '../keys/cpace.js'
import { keyedHash } from '../keys/hash.js'
import { randomBytes } from '../keys/identity.js'
import { sodium } from '../keys/sodium.js'
import { NS } from '../keys/namespaces.js'

/*
 * What two hosts say to each other that share the secret of an invite, and nothing else yet, on a
 * Noise connection between keys made for it:
 *
 *   newcomer  kind of secret (1 the words, 2 that of the link), the topic, its point of CPace
 *   inviter   its point
 *   newcomer  proof, request
 *   inviter   an outcome; where it is OK a proof, and the reply
 *
 * The session of CPace is the hash of the Noise handshake, so nobody can stand between. A proof is
 * 32 bytes that only who has the key can make, and commits to it; request and reply are in boxes.
 */
const PROTOCOL = 'hyperparcel/pairing'
const CONTEXT = Buffer.from('hyperparcel pairing 1')
const NONE = Buffer.alloc(0)
const POINT = 32
const PROOF = 32
/** A reply for each of some thousand parcels. */
const MOST = 2 * 1_048_576

export const KIND = { words: 1, link: 2 } as const
export const OUTCOME = { ok: 0, wrong: 1, refused: 2, used: 3, expired: 4 } as const
export type Outcome = (typeof OUTCOME)[keyof typeof OUTCOME]

/** Messages of one connection, in order. */
class Talk {
  readonly #message: Message<Buffer>
  readonly #close: () => void
  readonly #arrived: Buffer[] = []
  #waiting: ((bytes: Buffer | null) => void) | null = null
  #isClosed = false

  constructor(connection: Connection) {
    const channel = Protomux.from(connection).createChannel({
      protocol: PROTOCOL,
      handshake: raw,
      messages: [{ encoding: raw, onmessage: (bytes: Buffer) => this.#onMessage(bytes) }],
      onopen: () => {},
      onclose: () => this.#end()
    })
    const message = channel?.messages[0]
    if (!channel || !message) throw new Error('one message was asked for')
    this.#message = message
    this.#close = () => channel.close()
    connection.once('close', () => this.#end())
    channel.open(NONE)
  }

  send(bytes: Buffer): void {
    if (!this.#isClosed) this.#message.send(bytes)
  }

  /** null: the other side has gone, or says too much. */
  take(): Promise<Buffer | null> {
    const next = this.#arrived.shift()
    if (next !== undefined || this.#isClosed) return Promise.resolve(next ?? null)
    return new Promise((resolve) => (this.#waiting = resolve))
  }

  close(): void {
    if (!this.#isClosed) this.#close()
    this.#end()
  }

  #onMessage(bytes: Buffer): void {
    if (bytes.byteLength > MOST || this.#arrived.length > 4) {
      this.close()
      return
    }
    const waiting = this.#waiting
    this.#waiting = null
    if (waiting === null) this.#arrived.push(Buffer.from(bytes))
    else waiting(Buffer.from(bytes))
  }

  #end(): void {
    this.#isClosed = true
    this.#waiting?.(null)
    this.#waiting = null
  }
}

/** The newcomer's side. null: the other is no inviter of ours, or has gone. */
export async function ask(
  connection: Connection,
  { kind, topic, secret }: { kind: number; topic: Buffer; secret: Buffer },
  requestFor: (session: Buffer) => JoinRequest,
  onProof: () => void
): Promise<{ outcome: Outcome; replies: JoinReply[] } | null> {
  const session = connection.handshakeHash
  const talk = new Talk(connection)
  try {
    const cpace = new Cpace({ secret, context: CONTEXT, session }, NONE)
    talk.send(Buffer.concat([Buffer.from([kind]), topic, cpace.share.point]))
    const theirs = await talk.take()
    const key = theirs === null ? null : cpace.initiated(shareOf(theirs))
    if (key === null) return null
    const request = encodeJoinRequest(requestFor(session))
    onProof()
    talk.send(Buffer.concat([proof(key, 'newcomer'), seal(key, 'request', request)]))
    const answer = await talk.take()
    if (answer === null) return null
    const outcome = outcomeOf(answer[0])
    if (outcome === null) return null
    if (outcome === OUTCOME.wrong) return { outcome, replies: [] }
    // Whatever else it says, only who knows the secret may say.
    if (!answer.subarray(1, 1 + PROOF).equals(proof(key, 'inviter'))) return null
    if (outcome !== OUTCOME.ok) return { outcome, replies: [] }
    const reply = open(key, 'reply', answer.subarray(1 + PROOF))
    return reply === null ? null : { outcome, replies: decodeJoinReplies(reply) }
  } finally {
    talk.close()
  }
}

/** The inviter's side. `secretOf` null: no such kind; `answer` is called for who knows the secret. */
export async function respond(
  connection: Connection,
  secretOf: (kind: number, topic: Buffer) => Buffer | null,
  {
    isOpen,
    onWrong,
    answer
  }: {
    isOpen: () => boolean
    onWrong: () => void
    answer: (
      request: JoinRequest,
      session: Buffer
    ) => Promise<{ outcome: Outcome; replies: JoinReply[] }>
  }
): Promise<void> {
  const session = connection.handshakeHash
  const talk = new Talk(connection)
  try {
    const hello = await talk.take()
    const secret =
      hello === null ? null : secretOf(hello[0] ?? 0, hello.subarray(1, 1 + HASH_BYTES))
    if (hello === null || secret === null) return
    const cpace = new Cpace({ secret, context: CONTEXT, session }, NONE)
    const key = cpace.responded(shareOf(hello.subarray(1 + HASH_BYTES)))
    if (key === null) return
    talk.send(cpace.share.point)
    const proved = await talk.take()
    // Who goes away now has learned nothing of the secret.
    if (proved === null || !isOpen()) return
    const isProof = proved.subarray(0, PROOF).equals(proof(key, 'newcomer'))
    const request = isProof ? open(key, 'request', proved.subarray(PROOF)) : null
    if (request === null) {
      onWrong()
      talk.send(Buffer.from([OUTCOME.wrong]))
      await talk.take()
      return
    }
    const { outcome, replies } = await answer(decodeJoinRequest(request), session)
    const head = Buffer.concat([Buffer.from([outcome]), proof(key, 'inviter')])
    if (replies.length === 0) talk.send(head)
    else talk.send(Buffer.concat([head, seal(key, 'reply', encodeJoinReplies(replies))]))
    // The newcomer closes when it has read that.
    await talk.take()
  } finally {
    talk.close()
  }
}

function shareOf(bytes: Buffer): Share {
  return { point: bytes.byteLength === POINT ? bytes : NONE, data: NONE }
}

function outcomeOf(byte: number | undefined): Outcome | null {
  return Object.values(OUTCOME).find((outcome) => outcome === byte) ?? null
}

function derive(key: Buffer, use: string): Buffer {
  return keyedHash(key, NS.pairingKey, Buffer.from(use))
}

function proof(key: Buffer, of: 'newcomer' | 'inviter'): Buffer {
  return derive(key, `proof of ${of}`)
}

function seal(key: Buffer, what: string, bytes: Buffer): Buffer {
  const nonce = randomBytes(NONCE_BYTES)
  const box = Buffer.alloc(bytes.byteLength + sodium.crypto_secretbox_MACBYTES)
  sodium.crypto_secretbox_easy(box, bytes, nonce, derive(key, what))
  return Buffer.concat([nonce, box])
}

function open(key: Buffer, what: string, sealed: Buffer): Buffer | null {
  const length = sealed.byteLength - NONCE_BYTES - sodium.crypto_secretbox_MACBYTES
  if (length < 0) return null
  const out = Buffer.alloc(length)
  const [nonce, box] = [sealed.subarray(0, NONCE_BYTES), sealed.subarray(NONCE_BYTES)]
  return sodium.crypto_secretbox_open_easy(out, box, nonce, derive(key, what)) ? out : null
}
