import sodium from 'sodium-native'
import { ParcelError } from '../errors.js'
import { Reader, Writer } from './codec.js'
import { readFormat } from './extension.js'
import {
  FORMAT,
  HASH_BYTES,
  KEY_BYTES,
  MAX_DRIVER_BYTES,
  MAX_NAME_BYTES,
  SIGNATURE_BYTES
} from './limits.js'

/** What a newcomer sends. Whoever holds the invite can read it. The signature is over the invite's id. */
export interface JoinRequest {
  host: Buffer
  name: string
  signature: Buffer
}

/** What the inviter answers, sealed to the newcomer's identity key. */
export interface JoinReply {
  parcel: Buffer
  name: string
  driver: string
  inviter: Buffer
  inviterName: string
  epoch: number
  epochKey: Buffer
  controlKey: Buffer
  /** Signed `cores` record of the inviter: bytes and signature. */
  announcement: { bytes: Buffer; signature: Buffer }
}

const MAX_ANNOUNCEMENT = 8_192
const INVITE_PREFIX = 'hyperparcel1'
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
  const writer = new Writer(512).varint(FORMAT).fixed(reply.parcel, HASH_BYTES)
  writer.text(reply.name, MAX_NAME_BYTES).text(reply.driver, MAX_DRIVER_BYTES)
  writer.fixed(reply.inviter, KEY_BYTES).text(reply.inviterName, MAX_NAME_BYTES)
  writer.varint(reply.epoch).fixed(reply.epochKey, KEY_BYTES).fixed(reply.controlKey, KEY_BYTES)
  const { bytes, signature } = reply.announcement
  return Buffer.from(writer.sized(bytes).fixed(signature, SIGNATURE_BYTES).bytes())
}

export function decodeJoinReply(bytes: Uint8Array): JoinReply {
  const reader = new Reader(bytes, 'join reply')
  readFormat(reader, FORMAT, 'join reply')
  const reply = {
    parcel: reader.fixed(HASH_BYTES),
    name: reader.text(MAX_NAME_BYTES),
    driver: reader.text(MAX_DRIVER_BYTES),
    inviter: reader.fixed(KEY_BYTES),
    inviterName: reader.text(MAX_NAME_BYTES),
    epoch: reader.varint(),
    epochKey: reader.fixed(KEY_BYTES),
    controlKey: reader.fixed(KEY_BYTES),
    announcement: {
      bytes: reader.sized(MAX_ANNOUNCEMENT),
      signature: reader.fixed(SIGNATURE_BYTES)
    }
  }
  reader.end()
  return reply
}

/**
 * An invite as text: a prefix that names us and the format, then base64url of blind-pairing's own
 * invite and four bytes of its BLAKE2b-256, so that a wrong letter is seen at once.
 */
export function inviteText(invite: Uint8Array): string {
  const bytes = Buffer.from(invite)
  return `${INVITE_PREFIX}.${Buffer.concat([bytes, checksum(bytes)]).toString('base64url')}`
}

/** Throws BAD_INVITE for anything that `inviteText` cannot have made. */
export function parseInvite(text: string): Buffer {
  const [prefix, body, ...more] = text.trim().split('.')
  if (prefix?.startsWith('hyperparcel') === true && /^hyperparcel([2-9]|\d{2,})$/.test(prefix)) {
    throw new ParcelError(
      'NEWER_FORMAT',
      'this invite is from a newer hyperparcel: update this one'
    )
  }
  const bytes = Buffer.from(body ?? '', 'base64url')
  if (
    prefix !== INVITE_PREFIX ||
    more.length > 0 ||
    bytes.byteLength < 64 + CHECKSUM ||
    bytes.byteLength > 1_024 + CHECKSUM ||
    bytes.toString('base64url') !== body ||
    !checksum(bytes.subarray(0, -CHECKSUM)).equals(bytes.subarray(-CHECKSUM))
  ) {
    throw new ParcelError(
      'BAD_INVITE',
      'not an invite: it begins with "hyperparcel1." and must be copied whole'
    )
  }
  return bytes.subarray(0, -CHECKSUM)
}

function checksum(invite: Buffer): Buffer {
  const hash = Buffer.alloc(HASH_BYTES)
  sodium.crypto_generichash(hash, invite)
  return hash.subarray(0, CHECKSUM)
}
