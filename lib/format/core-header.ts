import { Reader, Writer } from './codec.js'
import { readFormat } from './extension.js'
import { FORMAT, HASH_BYTES, KEY_BYTES, KEY_ID_BYTES } from './limits.js'

export type CoreKind = 'control' | 'meta' | 'data'

/** Block 0 of every core: what it is and whose, so that a log can be told apart by itself. */
export interface CoreHeader {
  kind: CoreKind
  parcel: Buffer
  /** Who writes it, in the words of who alone can write it: nobody can announce it as his own. */
  host: Buffer
  incarnation: Buffer
}

const MAGIC = Buffer.from('hyperparcel')
const KINDS: readonly CoreKind[] = ['control', 'meta', 'data']

export function encodeCoreHeader({ kind, parcel, host, incarnation }: CoreHeader): Buffer {
  const writer = new Writer(112).raw(MAGIC).varint(FORMAT)
  writer
    .u8(KINDS.indexOf(kind) + 1)
    .fixed(parcel, HASH_BYTES)
    .fixed(host, KEY_BYTES)
    .fixed(incarnation, KEY_ID_BYTES)
  return Buffer.from(writer.bytes())
}

export function decodeCoreHeader(bytes: Uint8Array): CoreHeader {
  const reader = new Reader(bytes, 'core header')
  if (!reader.fixed(MAGIC.byteLength).equals(MAGIC)) reader.fail('not one of ours')
  readFormat(reader, FORMAT, 'log')
  const kind = KINDS[reader.u8() - 1] ?? reader.fail('unknown kind')
  const parcel = reader.fixed(HASH_BYTES)
  const host = reader.fixed(KEY_BYTES)
  const header = { kind, parcel, host, incarnation: reader.fixed(KEY_ID_BYTES) }
  reader.end()
  return header
}
