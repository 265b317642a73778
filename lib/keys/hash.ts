import { Blake3Hasher } from '@napi-rs/blake-hash'
import { HASH_BYTES } from '../format/limits.js'
import { sodium } from './sodium.js'

/** BLAKE2b-256 of the parts in order, keyed with a namespace or a secret. */
export function keyedHash(key: Buffer, ...parts: readonly Buffer[]): Buffer {
  const out = Buffer.alloc(HASH_BYTES)
  sodium.crypto_generichash_batch(out, parts, key)
  return out
}

/** BLAKE3 in keyed mode, 32 bytes: four times as fast as BLAKE2b where there is much to hash. */
export function fastKeyedHash(key: Buffer, bytes: Buffer): Buffer {
  return Blake3Hasher.newKeyed(key).update(bytes).digestBuffer()
}
