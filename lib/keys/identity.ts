import { KEY_BYTES, SIGNATURE_BYTES } from '../format/limits.js'
import { keyedHash } from './hash.js'
import { NS } from './namespaces.js'
import { sodium } from './sodium.js'

export interface KeyPair {
  publicKey: Buffer
  secretKey: Buffer
}

/**
 * The secrets of a host. The identity key pair (Ed25519) signs records and is the static key of
 * every Noise handshake; `atRest` seals local files; `index` keys the local chunk index.
 */
export class Identity {
  readonly keyPair: KeyPair
  readonly atRest: Buffer
  readonly index: Buffer
  readonly #seed: Buffer

  constructor(seed: Buffer, atRest: Buffer, index: Buffer) {
    this.keyPair = keyPairFrom(seed)
    this.#seed = seed
    this.atRest = atRest
    this.index = index
  }

  static create(): Identity {
    return new Identity(randomBytes(KEY_BYTES), randomBytes(KEY_BYTES), randomBytes(KEY_BYTES))
  }

  /** The same host again, from the seed of its key pair; nothing that it had sealed for itself alone opens. */
  static restore(seed: Buffer): Identity {
    return new Identity(seed, randomBytes(KEY_BYTES), randomBytes(KEY_BYTES))
  }

  get publicKey(): Buffer {
    return this.keyPair.publicKey
  }

  /** Where members that can bring this host back are found on the DHT, when it knows none of them. */
  get recoveryTopic(): Buffer {
    return keyedHash(this.#seed, NS.recovery)
  }

  /** All that another machine needs to be this host; for the recovery phrase. */
  get seed(): Buffer {
    return this.#seed
  }

  /** The three secrets, 96 bytes; only ever written to the key file. */
  export(): Buffer {
    return Buffer.concat([this.#seed, this.atRest, this.index])
  }

  static import(bytes: Buffer): Identity {
    const part = (n: number): Buffer => bytes.subarray(n * KEY_BYTES, (n + 1) * KEY_BYTES)
    return new Identity(part(0), part(1), part(2))
  }

  sign(namespace: Buffer, bytes: Buffer): Buffer {
    return signDetached(this.keyPair, Buffer.concat([namespace, bytes]))
  }

  /** Opens what `sealTo` made for this host's public key; null if it was not for us or is damaged. */
  unseal(sealed: Buffer): Buffer | null {
    if (sealed.byteLength < sodium.crypto_box_SEALBYTES) return null
    const publicKey = Buffer.alloc(KEY_BYTES)
    const secretKey = Buffer.alloc(KEY_BYTES)
    sodium.crypto_sign_ed25519_pk_to_curve25519(publicKey, this.keyPair.publicKey)
    sodium.crypto_sign_ed25519_sk_to_curve25519(secretKey, this.keyPair.secretKey)
    const out = Buffer.alloc(sealed.byteLength - sodium.crypto_box_SEALBYTES)
    return sodium.crypto_box_seal_open(out, sealed, publicKey, secretKey) ? out : null
  }
}

/** A plain Ed25519 signature, for formats of other packages; ours go through `Identity.sign`. */
export function signDetached(keyPair: KeyPair, bytes: Buffer): Buffer {
  const signature = Buffer.alloc(SIGNATURE_BYTES)
  sodium.crypto_sign_detached(signature, bytes, keyPair.secretKey)
  return signature
}

export function verifySignature(
  namespace: Buffer,
  bytes: Buffer,
  signature: Buffer,
  publicKey: Buffer
): boolean {
  return sodium.crypto_sign_verify_detached(signature, Buffer.concat([namespace, bytes]), publicKey)
}

/** Seals bytes so that only the host with this identity can read them (libsodium's sealed box). */
export function sealTo(publicKey: Buffer, bytes: Buffer): Buffer {
  const boxKey = Buffer.alloc(KEY_BYTES)
  sodium.crypto_sign_ed25519_pk_to_curve25519(boxKey, publicKey)
  const out = Buffer.alloc(bytes.byteLength + sodium.crypto_box_SEALBYTES)
  sodium.crypto_box_seal(out, bytes, boxKey)
  return out
}

/** An Ed25519 key pair from a 32-byte seed. */
export function keyPairFrom(seed: Buffer): KeyPair {
  const publicKey = Buffer.alloc(sodium.crypto_sign_PUBLICKEYBYTES)
  const secretKey = Buffer.alloc(sodium.crypto_sign_SECRETKEYBYTES)
  sodium.crypto_sign_seed_keypair(publicKey, secretKey, seed)
  return { publicKey, secretKey }
}

export function randomBytes(length: number): Buffer {
  const out = Buffer.alloc(length)
  sodium.randombytes_buf(out)
  return out
}
