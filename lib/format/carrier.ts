import { Reader, Writer } from './codec.js'

/** What a host tells a trusted one so that both may meet over TCP as well. */
export interface CarrierOffer {
  /** Where it listens, at the address that it is known at; 0: nowhere. */
  port: number
  /** What to say first, so that nobody else is listened to. */
  token: Buffer
}

export const TOKEN_BYTES = 32

export function encodeOffer({ port, token }: CarrierOffer): Buffer {
  return Buffer.from(new Writer(64).varint(port).fixed(token, TOKEN_BYTES).bytes())
}

/** Bytes after the known fields are left for later versions. */
export function decodeOffer(bytes: Uint8Array): CarrierOffer {
  const reader = new Reader(bytes, 'carrier offer')
  return { port: reader.varint(65_535), token: reader.fixed(TOKEN_BYTES) }
}
