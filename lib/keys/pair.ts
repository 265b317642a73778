import { KEY_BYTES } from '../format/limits.js'
import { LAN_TAG_BYTES } from '../format/lan.js'
import { keyedHash } from './hash.js'
import type { KeyPair } from './identity.js'
import { NS } from './namespaces.js'
import { sodium } from './sodium.js'

/**
 * What two hosts alone know, each from its own secret key and the other's public key (X25519 of the identity
 * keys); null for a public key that is none.
 */
export function pairSecret({ secretKey }: KeyPair, publicKey: Buffer): Buffer | null {
  const own = Buffer.alloc(KEY_BYTES)
  const other = Buffer.alloc(KEY_BYTES)
  const shared = Buffer.alloc(KEY_BYTES)
  try {
    sodium.crypto_sign_ed25519_sk_to_curve25519(own, secretKey)
    sodium.crypto_sign_ed25519_pk_to_curve25519(other, publicKey)
    sodium.crypto_scalarmult(shared, own, other)
  } catch {
    return null
  }
  return keyedHash(NS.pair, shared)
}

/** By what a host knows that an announcement with a nonce is of `announcer`. */
export function lanTag(secret: Buffer, nonce: Buffer, announcer: Buffer): Buffer {
  return keyedHash(secret, NS.lanTag, nonce, announcer).subarray(0, LAN_TAG_BYTES)
}

/** What `dialer` says first at the TCP port of the other host, which is listened to only then. */
export function knockToken(secret: Buffer, dialer: Buffer): Buffer {
  return keyedHash(secret, NS.knock, dialer)
}
