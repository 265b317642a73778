import sodium from 'sodium-native'
import { HASH_BYTES } from '../format/limits.js'

/** BLAKE2b-256 of the parts in order, keyed with a namespace or a secret. */
export function keyedHash(key: Buffer, ...parts: readonly Buffer[]): Buffer {
  const out = Buffer.alloc(HASH_BYTES)
  sodium.crypto_generichash_batch(out, parts, key)
  return out
}
