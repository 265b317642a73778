import { ParcelError } from '../errors.js'
import { sodium } from '../keys/sodium.js'
import { Reader, readOptional, writeOptional, Writer } from './codec.js'
import { ROLES, type MemberRole } from './control-record.js'
import { readFormat } from './extension.js'
import { MAX_INTRODUCED } from './recovery.js'
import type { SignedRecord } from './wire.js'
import {
  FORMAT,
  HASH_BYTES,
  KEY_BYTES,
  MAX_DRIVER_BYTES,
  MAX_NAME_BYTES,
  SIGNATURE_BYTES
} from './limits.js'

/** What a newcomer sends, sealed. The signature is over the session that it is sent in. */
export interface JoinRequest {
  host: Buffer
  name: string
  signature: Buffer
}

/** What the inviter answers, sealed. */
export interface JoinReply {
  parcel: Buffer
  name: string
  driver: string
  inviter: Buffer
  inviterName: string
  /** What the newcomer may do. */
  role: MemberRole
  /** Of the newest epoch; a vault is not given its epoch key. */
  epoch: number
  record: Buffer | null
  epochKey: Buffer | null
  controlKey: Buffer
  /** Signed `cores` records, the inviter's first: whom to trust until it is known who is a member. */
  announcements: SignedRecord[]
}

const REPLY_FORMAT = 2
const MAX_ANNOUNCEMENT = 8_192
const MAX_REPLIES = 4_096
const MAX_REPLY = 16_384
const INVITE_PREFIX = 'hyperparcel2'
const LINK_BYTES = 16
export const CODE_WORDS = 2
const CHECKSUM = 4

export function encodeJoinRequest(request: JoinRequest): Buffer {
  const writer = new Writer(192).varint(FORMAT).fixed(request.host, KEY_BYTES)
  return Buffer.from(
    writer.text(request.name, MAX_NAME_BYTES).fixed(request.signature, SIGNATURE_BYTES).bytes()
  )
}

export function decodeJoinRequest(bytes: Uint8Array): JoinRequest {
  const reader = new Reader(bytes, 'join request')
  readFormat(reader, FORMAT, 'join request')
  const host = reader.fixed(KEY_BYTES)
  const name = reader.text(MAX_NAME_BYTES)
  const signature = reader.fixed(SIGNATURE_BYTES)
  reader.end()
  return { host, name, signature }
}

export function encodeJoinReply(reply: JoinReply): Buffer {
  const writer = new Writer(512).varint(REPLY_FORMAT).fixed(reply.parcel, HASH_BYTES)
  writer.text(reply.name, MAX_NAME_BYTES).text(reply.driver, MAX_DRIVER_BYTES)
  writer.fixed(reply.inviter, KEY_BYTES).text(reply.inviterName, MAX_NAME_BYTES)
  writer.u8(ROLES.indexOf(reply.role) + 1).varint(reply.epoch)
  writeOptional(writer, reply.record)
  writeOptional(writer, reply.epochKey)
  writer.fixed(reply.controlKey, KEY_BYTES)
  writer.list(reply.announcements, ({ bytes, signature }) =>
    writer.sized(bytes).fixed(signature, SIGNATURE_BYTES)
  )
  return Buffer.from(writer.bytes())
}

export function decodeJoinReply(bytes: Uint8Array): JoinReply {
  const reader = new Reader(bytes, 'join reply')
  // One of format 1 came by another way of pairing, which is not spoken any more.
  if (readFormat(reader, REPLY_FORMAT, 'join reply') < REPLY_FORMAT) reader.fail('format 1')
  const reply = {
    parcel: reader.fixed(HASH_BYTES),
    name: reader.text(MAX_NAME_BYTES),
    driver: reader.text(MAX_DRIVER_BYTES),
    inviter: reader.fixed(KEY_BYTES),
    inviterName: reader.text(MAX_NAME_BYTES),
    role: ROLES[reader.u8() - 1] ?? reader.fail('unknown role'),
    epoch: reader.varint(),
    record: readOptional(reader),
    epochKey: readOptional(reader),
    controlKey: reader.fixed(KEY_BYTES),
    announcements: reader.list(MAX_INTRODUCED, () => ({
      bytes: reader.sized(MAX_ANNOUNCEMENT),
      signature: reader.fixed(SIGNATURE_BYTES)
    }))
  }
  reader.end()
  return reply
}

/** What the inviter answers: a reply for each parcel that the newcomer is let into. */
export function encodeJoinReplies(replies: readonly JoinReply[]): Buffer {
  const writer = new Writer(512 * replies.length)
  writer.list(replies, (reply) => writer.sized(encodeJoinReply(reply)))
  return Buffer.from(writer.bytes())
}

export function decodeJoinReplies(bytes: Uint8Array): JoinReply[] {
  const reader = new Reader(bytes, 'join replies')
  const replies = reader.list(MAX_REPLIES, () => decodeJoinReply(reader.sized(MAX_REPLY)))
  reader.end()
  return replies
}

/** What an invite's link holds. */
export interface InviteLink {
  /** Says where the two meet. */
  id: Buffer
  /** Known to nobody who was not given the link. */
  secret: Buffer
  /** ms since 1970. */
  expires: number
}

/** What an invite's code holds: a number that is looked up, and words that never leave the two hosts. */
export interface InviteCode {
  number: number
  words: string[]
}

/**
 * An invite as text: a prefix that names us and the format, then base64url of its fields and four
 * bytes of their BLAKE2b-256, so that a wrong letter is seen at once.
 */
export function linkText({ id, secret, expires }: InviteLink): string {
  const writer = new Writer(48).fixed(id, LINK_BYTES).fixed(secret, LINK_BYTES).varint(expires)
  const bytes = Buffer.from(writer.bytes())
  return `${INVITE_PREFIX}.${Buffer.concat([bytes, checksum(bytes)]).toString('base64url')}`
}

export function codeText({ number, words }: InviteCode): string {
  return [String(number), ...words].join('-')
}

/** A link or a code, as somebody has typed it. Throws BAD_INVITE, NEWER_FORMAT. */
export function parseInvite(text: string): InviteLink | InviteCode {
  const trimmed = text.trim()
  const [prefix, body, ...more] = trimmed.split('.')
  if (prefix?.startsWith('hyperparcel') !== true) return parseCode(trimmed)
  if (/^hyperparcel([3-9]|\d{2,})$/.test(prefix)) {
    throw new ParcelError(
      'NEWER_FORMAT',
      'this invite is from a newer hyperparcel: update this one'
    )
  }
  if (prefix === 'hyperparcel1') {
    throw new ParcelError('BAD_INVITE', 'this invite is from an older hyperparcel: update that one')
  }
  const bytes = Buffer.from(body ?? '', 'base64url')
  const [fields, sum] = [bytes.subarray(0, -CHECKSUM), bytes.subarray(-CHECKSUM)]
  const isWhole = bytes.toString('base64url') === body && checksum(fields).equals(sum)
  if (prefix !== INVITE_PREFIX || more.length > 0 || bytes.byteLength > 64 || !isWhole)
    throw badInvite()
  try {
    const reader = new Reader(fields, 'invite')
    const [id, secret] = [reader.fixed(LINK_BYTES), reader.fixed(LINK_BYTES)]
    const expires = reader.varint()
    reader.end()
    return { id, secret, expires }
  } catch (error) {
    throw badInvite(error)
  }
}

function parseCode(text: string): InviteCode {
  const [number = '', ...words] = text.toLowerCase().split(/[\s-]+/)
  const isCode = /^[1-9]\d{0,7}$/.test(number) && words.length === CODE_WORDS
  if (!isCode || !words.every((word) => /^[a-z]{3,8}$/.test(word))) throw badInvite()
  return { number: Number(number), words }
}

function badInvite(cause?: unknown): ParcelError {
  return new ParcelError(
    'BAD_INVITE',
    'not an invite: it is a number and two words, or begins with "hyperparcel2." and must be copied whole',
    cause
  )
}

function checksum(invite: Buffer): Buffer {
  const hash = Buffer.alloc(HASH_BYTES)
  sodium.crypto_generichash(hash, invite)
  return hash.subarray(0, CHECKSUM)
}
