import { decodeEpochKeys, encodeEpochKeys, type EpochKeys } from '../format/epoch-keys.js'
import { NONCE_BYTES } from '../format/limits.js'
import { keyedHash } from './hash.js'
import { randomBytes, sealTo, type Identity } from './identity.js'
import { NS } from './namespaces.js'
import { sodium } from './sodium.js'

/**
 * What an epoch record gives one host: the new keys, in libsodium's sealed box. The record's own id
 * is not known when they are sealed, so they are of the record in which they stand.
 */
export function sealKeys(parcel: Buffer, host: Buffer, keys: EpochKeys): Buffer {
  return sealTo(host, encodeEpochKeys(parcel, [{ ...keys, record: null }]))
}

/** null when they are not for this host, or damaged. */
export function unsealKeys(
  parcel: Buffer,
  identity: Identity,
  sealed: Buffer,
  record: Buffer
): EpochKeys | null {
  const bytes = identity.unseal(sealed)
  if (bytes === null) return null
  try {
    const [keys] = decodeEpochKeys(parcel, bytes)
    return keys === undefined ? null : { ...keys, record }
  } catch {
    return null
  }
}

/** Keys of epochs before, for whoever has a secret of the new one: nonce, then libsodium's secretbox. */
export function sealEarlier(parcel: Buffer, secret: Buffer, earlier: readonly EpochKeys[]): Buffer {
  const bytes = encodeEpochKeys(parcel, earlier)
  const nonce = randomBytes(NONCE_BYTES)
  const box = Buffer.alloc(bytes.byteLength + sodium.crypto_secretbox_MACBYTES)
  sodium.crypto_secretbox_easy(box, bytes, nonce, keyedHash(secret, NS.earlierKeys, parcel))
  return Buffer.concat([nonce, box])
}

/** null when it was sealed under another secret, or is damaged. */
export function unsealEarlier(parcel: Buffer, secret: Buffer, sealed: Buffer): EpochKeys[] | null {
  const length = sealed.byteLength - NONCE_BYTES - sodium.crypto_secretbox_MACBYTES
  if (length < 0) return null
  const out = Buffer.alloc(length)
  const [nonce, box] = [sealed.subarray(0, NONCE_BYTES), sealed.subarray(NONCE_BYTES)]
  const key = keyedHash(secret, NS.earlierKeys, parcel)
  if (!sodium.crypto_secretbox_open_easy(out, box, nonce, key)) return null
  try {
    return decodeEpochKeys(parcel, out)
  } catch {
    return null
  }
}
