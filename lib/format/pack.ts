import { Reader, Writer } from './codec.js'
import { CHUNK_SIZE, HASH_BYTES, MAX_PACK_ITEMS, MAX_PACK_RAW } from './limits.js'

/** chunks: pieces of files. pages: pages of id trees and place trees. */
export type PackKind = 'chunks' | 'pages'
export type Codec = 'none' | 'zstd'

export interface PackItem {
  /** Chunk id, or hash of the page. */
  id: Buffer
  length: number
}

/**
 * The body of a `data` block: kind, codec, then id and length of each item, then one frame over
 * all items in order. A pack describes itself, so an index can be built from the packs alone.
 */
export interface Pack {
  kind: PackKind
  codec: Codec
  items: PackItem[]
  frame: Buffer
}

export const KINDS: readonly PackKind[] = ['chunks', 'pages']
export const CODECS: readonly Codec[] = ['none', 'zstd']

/** Everything in front of the frame. */
export function encodePackHeader(kind: PackKind, codec: Codec, items: readonly PackItem[]): Buffer {
  const writer = new Writer(16 + items.length * (HASH_BYTES + 3))
  writer.u8(KINDS.indexOf(kind) + 1).u8(CODECS.indexOf(codec))
  writer.list(items, (item) => writer.fixed(item.id, HASH_BYTES).varint(item.length))
  return writer.bytes()
}

export function decodePack(body: Uint8Array): Pack {
  const reader = new Reader(body, 'pack')
  const kind = KINDS[reader.u8() - 1] ?? reader.fail('its kind is unknown')
  const codec = CODECS[reader.u8()] ?? reader.fail('its codec is unknown')
  const items = reader.list(MAX_PACK_ITEMS, () => ({
    id: reader.fixed(HASH_BYTES),
    length: reader.varint(CHUNK_SIZE)
  }))
  const frame = reader.rest()
  const raw = rawLength(items)
  if (items.length === 0 || raw > MAX_PACK_RAW) reader.fail(`${items.length} items, ${raw} bytes`)
  if (codec === 'none' && frame.byteLength !== raw) reader.fail('its frame has another length')
  return { kind, codec, items, frame }
}

export function rawLength(items: readonly PackItem[]): number {
  return items.reduce((sum, item) => sum + item.length, 0)
}
