import { Reader, Writer } from './codec.js'
import { HASH_BYTES, MAX_CORES, MAX_TEXT, SIGNATURE_BYTES } from './limits.js'

/** Protocol versions that this software speaks on the channel, oldest and newest. */
export const PROTOCOL_MIN = 1
export const PROTOCOL_MAX = 1

/** The handshake of a parcel's channel. Both sides use the largest version that both speak. */
export interface Hello {
  min: number
  max: number
  /** For people, such as 'hyperparcel 0.1.0'. */
  software: string
}

/** A control record passed along as its author signed it. */
export interface SignedRecord {
  bytes: Buffer
  signature: Buffer
}

const MAX_SOFTWARE = 256
/** A body of the largest allowed size with all its parents, and still one block. */
const MAX_RECORD = 3 * 2 ** 20

export function encodeHello({ min, max, software }: Hello): Buffer {
  return Buffer.from(new Writer(64).varint(min).varint(max).text(software, MAX_SOFTWARE).bytes())
}

/** Bytes after the known fields are left for later versions. */
export function decodeHello(bytes: Uint8Array): Hello {
  const reader = new Reader(bytes, 'hello')
  return { min: reader.varint(), max: reader.varint(), software: reader.text(MAX_SOFTWARE) }
}

/** The version to speak with a peer, or null when there is none in common. */
export function negotiate(hello: Hello): number | null {
  const version = Math.min(PROTOCOL_MAX, hello.max)
  return version >= Math.max(PROTOCOL_MIN, hello.min) ? version : null
}

export function encodeAnnouncements(records: readonly SignedRecord[]): Buffer {
  const writer = new Writer(1_024)
  writer.list(records, ({ bytes, signature }) => {
    writer.sized(bytes).fixed(signature, SIGNATURE_BYTES)
  })
  return Buffer.from(writer.bytes())
}

export function decodeAnnouncements(bytes: Uint8Array): SignedRecord[] {
  const reader = new Reader(bytes, 'announcement')
  const records = reader.list(MAX_TEXT, () => ({
    bytes: reader.sized(MAX_RECORD),
    signature: reader.fixed(SIGNATURE_BYTES)
  }))
  reader.end()
  return records
}

/** The ids of the newest versions that a host knows. */
export function encodeHeads(heads: readonly Buffer[]): Buffer {
  const writer = new Writer(16 + heads.length * HASH_BYTES)
  return Buffer.from(writer.list(heads, (id) => writer.fixed(id, HASH_BYTES)).bytes())
}

export function decodeHeads(bytes: Uint8Array): Buffer[] {
  const reader = new Reader(bytes, 'heads')
  const heads = reader.list(MAX_CORES, () => reader.fixed(HASH_BYTES))
  reader.end()
  return heads
}
