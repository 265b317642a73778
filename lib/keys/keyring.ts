import sodium from 'sodium-native'
import { ParcelError } from '../errors.js'
import type { CoreKind } from '../format/core-header.js'
import {
  ENVELOPE_BYTES,
  FORMAT,
  KEY_BYTES,
  KEY_ID_BYTES,
  NONCE_BYTES,
  TAG_BYTES
} from '../format/limits.js'
import { keyedHash } from './hash.js'
import { NS } from './namespaces.js'

/** The secrets of one key epoch of a parcel. A vault has the control key alone. */
export interface EpochKeys {
  epoch: number
  epochKey: Buffer | null
  controlKey: Buffer
}

interface SealingKey {
  id: Buffer
  key: Buffer
}

const AT_KEY_ID = 1
const AT_NONCE = AT_KEY_ID + KEY_ID_BYTES
const AT_TAG = AT_NONCE + NONCE_BYTES

/**
 * The keys of a parcel, of every epoch that this host was a member in, and the sealing of blocks
 * with them: XChaCha20-Poly1305 (libsodium, detached tag) with a random nonce, bound to the core
 * and the index by associated data. Old blocks stay sealed with the key of their own epoch.
 *
 * Envelope: u8 format, 16 bytes key id, 24 bytes nonce, 16 bytes tag, ciphertext.
 */
export class Keyring {
  readonly #epochs = new Map<number, EpochKeys>()
  readonly #byId = new Map<string, SealingKey>()
  readonly #sealing = new Map<CoreKind, SealingKey>()
  #current = -1
  readonly #parcel: Buffer

  constructor(parcel: Buffer, epochs: readonly EpochKeys[]) {
    this.#parcel = parcel
    for (const keys of epochs) this.add(keys)
  }

  add(keys: EpochKeys): void {
    this.#epochs.set(keys.epoch, keys)
    const isNewest = keys.epoch >= this.#current
    for (const kind of ['control', 'meta', 'data'] as const) {
      // Without a key of the newest epoch nothing is written: never under an older one.
      if (isNewest) this.#sealing.delete(kind)
      const sealing = this.#derive(keys, kind)
      if (sealing === null) continue
      this.#byId.set(sealing.id.toString('hex'), sealing)
      if (isNewest) this.#sealing.set(kind, sealing)
    }
    if (isNewest) this.#current = keys.epoch
  }

  get current(): EpochKeys {
    const keys = this.#epochs.get(this.#current)
    if (keys === undefined) throw new ParcelError('BAD_KEY', 'this parcel has no keys on this host')
    return keys
  }

  list(): EpochKeys[] {
    return [...this.#epochs.values()]
  }

  /** Where members of the current epoch meet on the DHT. */
  topic(): Buffer {
    return keyedHash(NS.topic, this.current.epochKey ?? this.current.controlKey, this.#parcel)
  }

  /**
   * Seals a block in place. The plaintext stands behind ENVELOPE_BYTES of free space; the
   * returned block is the same buffer.
   */
  seal(kind: CoreKind, core: Buffer, index: number, block: Buffer): Buffer {
    const sealing = this.#sealing.get(kind)
    if (sealing === undefined)
      throw new ParcelError('BAD_KEY', `this host has no key to write ${kind}`)
    const body = block.subarray(ENVELOPE_BYTES)
    const nonce = block.subarray(AT_NONCE, AT_TAG)
    const tag = block.subarray(AT_TAG, ENVELOPE_BYTES)
    block[0] = FORMAT
    block.set(sealing.id, AT_KEY_ID)
    sodium.randombytes_buf(nonce)
    sodium.crypto_aead_xchacha20poly1305_ietf_encrypt_detached(
      body,
      tag,
      body,
      associated(core, index),
      null,
      nonce,
      sealing.key
    )
    return block
  }

  /** Opens a block into a new buffer. Throws INTEGRITY (damaged), BAD_KEY (no such key here), NEWER_FORMAT. */
  open(core: Buffer, index: number, block: Buffer): Buffer {
    if (block.byteLength < ENVELOPE_BYTES + TAG_BYTES) throw damaged(index)
    const format = block[0] ?? 0
    if (format > FORMAT) {
      throw new ParcelError('NEWER_FORMAT', 'a block is of a newer format: update hyperparcel')
    }
    const id = block.toString('hex', AT_KEY_ID, AT_NONCE)
    const sealing = this.#byId.get(id)
    if (format !== FORMAT) throw damaged(index)
    if (sealing === undefined) {
      throw new ParcelError('BAD_KEY', `no key on this host opens block ${index} of a log`)
    }
    const out = Buffer.allocUnsafe(block.byteLength - ENVELOPE_BYTES)
    try {
      sodium.crypto_aead_xchacha20poly1305_ietf_decrypt_detached(
        out,
        null,
        block.subarray(ENVELOPE_BYTES),
        block.subarray(AT_TAG, ENVELOPE_BYTES),
        associated(core, index),
        block.subarray(AT_NONCE, AT_TAG),
        sealing.key
      )
    } catch (error) {
      throw damaged(index, error)
    }
    return out
  }

  #derive(keys: EpochKeys, kind: CoreKind): SealingKey | null {
    const secret = kind === 'control' ? keys.controlKey : keys.epochKey
    if (secret === null) return null
    const namespace = { control: NS.controlKey, meta: NS.metaKey, data: NS.dataKey }[kind]
    const key = keyedHash(secret, namespace, this.#parcel)
    return { key, id: keyedHash(key, NS.keyId).subarray(0, KEY_ID_BYTES) }
  }
}

function associated(core: Buffer, index: number): Buffer {
  const bytes = Buffer.alloc(NS.envelope.byteLength + KEY_BYTES + 8)
  bytes.set(NS.envelope)
  bytes.set(core, NS.envelope.byteLength)
  bytes.writeBigUInt64LE(BigInt(index), NS.envelope.byteLength + KEY_BYTES)
  return bytes
}

function damaged(index: number, cause?: unknown): ParcelError {
  return new ParcelError(
    'INTEGRITY',
    `block ${index} of a log is damaged: its seal does not open`,
    cause
  )
}
