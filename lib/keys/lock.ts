import { ParcelError } from '../errors.js'
import { KEY_BYTES, NONCE_BYTES } from '../format/limits.js'
import { randomBytes } from './identity.js'
import { sodium } from './sodium.js'

/** How a passphrase becomes a key: Argon2id, RFC 9106, as libsodium has it. */
export interface Stretch {
  /** Passes over the memory. */
  passes: number
  /** Bytes. */
  memory: number
  salt: Buffer
}

export const SALT_BYTES = sodium.crypto_pwhash_SALTBYTES
/** More is a file that wants to keep us busy, not one that we wrote. */
const MOST = { passes: 64, memory: 2 ** 32 }

/** A second or so, once for each start of a daemon. */
export function newStretch(): Stretch {
  return {
    passes: sodium.crypto_pwhash_OPSLIMIT_MODERATE,
    memory: sodium.crypto_pwhash_MEMLIMIT_MODERATE,
    salt: randomBytes(SALT_BYTES)
  }
}

/** For what is a key already, such as what a keychain keeps. */
export function leastStretch(): Stretch {
  return {
    passes: sodium.crypto_pwhash_OPSLIMIT_MIN,
    memory: sodium.crypto_pwhash_MEMLIMIT_MIN,
    salt: randomBytes(SALT_BYTES)
  }
}

/** Seals a secret with a passphrase: nonce, then the box. */
export async function lock(secret: Buffer, passphrase: string, stretch: Stretch): Promise<Buffer> {
  const nonce = randomBytes(NONCE_BYTES)
  const box = Buffer.alloc(secret.byteLength + sodium.crypto_secretbox_MACBYTES)
  sodium.crypto_secretbox_easy(box, secret, nonce, await keyFrom(passphrase, stretch))
  return Buffer.concat([nonce, box])
}

/** Opens what `lock` sealed; null when the passphrase is another. Throws BAD_KEY for what nobody can open. */
export async function unlock(
  sealed: Buffer,
  passphrase: string,
  stretch: Stretch
): Promise<Buffer | null> {
  const length = sealed.byteLength - NONCE_BYTES - sodium.crypto_secretbox_MACBYTES
  const { passes, memory } = stretch
  if (length < 0 || passes > MOST.passes || memory > MOST.memory) {
    throw new ParcelError('BAD_KEY', 'the key file is damaged: restore it, or use its 24 words')
  }
  const out = Buffer.alloc(length)
  const key = await keyFrom(passphrase, stretch)
  const [nonce, box] = [sealed.subarray(0, NONCE_BYTES), sealed.subarray(NONCE_BYTES)]
  return sodium.crypto_secretbox_open_easy(out, box, nonce, key) ? out : null
}

/** The same passphrase typed on another keyboard is the same: NFKC. */
async function keyFrom(passphrase: string, { passes, memory, salt }: Stretch): Promise<Buffer> {
  const key = Buffer.alloc(KEY_BYTES)
  const text = Buffer.from(passphrase.normalize('NFKC'))
  await sodium.crypto_pwhash_async(
    key,
    text,
    salt,
    passes,
    memory,
    sodium.crypto_pwhash_ALG_ARGON2ID13
  )
  text.fill(0)
  return key
}
