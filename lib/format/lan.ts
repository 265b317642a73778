import { Reader, Writer } from './codec.js'

/** What a host says of itself on its own network: only a host that trusts it can tell whose this is. */
export interface LanRecord {
  /** Where it listens for TCP, at the address that this came from. */
  port: number
  /** Another one each time that the host is opened. */
  nonce: Buffer
  /** One for each host that it trusts, see `lanTag`. */
  tags: Buffer[]
}

export const LAN_NONCE_BYTES = 8
export const LAN_TAG_BYTES = 8
/** What fits into one datagram. */
export const MAX_LAN_TAGS = 96

const FORMAT = 1

export function encodeLanRecord({ port, nonce, tags }: LanRecord): Buffer {
  const writer = new Writer(32 + tags.length * LAN_TAG_BYTES)
  writer.u8(FORMAT).varint(port).fixed(nonce, LAN_NONCE_BYTES)
  writer.list(tags.slice(0, MAX_LAN_TAGS), (tag) => writer.fixed(tag, LAN_TAG_BYTES))
  return Buffer.from(writer.bytes())
}

/** Bytes after the known fields are left for later versions. Throws INTEGRITY. */
export function decodeLanRecord(bytes: Uint8Array): LanRecord {
  const reader = new Reader(bytes, 'announcement')
  const format = reader.u8()
  if (format !== FORMAT) reader.fail('of a format that is not known here')
  return {
    port: reader.varint(65_535),
    nonce: reader.fixed(LAN_NONCE_BYTES),
    tags: reader.list(MAX_LAN_TAGS, () => reader.fixed(LAN_TAG_BYTES))
  }
}
