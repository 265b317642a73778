import { ParcelError } from '../errors.js'
import {
  ENVELOPE_BYTES,
  FORMAT,
  KEY_BYTES,
  KEY_ID_BYTES,
  NONCE_BYTES,
  TAG_BYTES
} from '../format/limits.js'
import { NS } from './namespaces.js'
import { sodium } from './sodium.js'

/** A key that blocks are sealed with, and the name it has in their envelopes. */
export interface SealingKey {
  id: Uint8Array
  key: Uint8Array
}

const AT_KEY_ID = 1
const AT_NONCE = AT_KEY_ID + KEY_ID_BYTES
const AT_TAG = AT_NONCE + NONCE_BYTES

/**
 * Seals a block in place: XChaCha20-Poly1305 (libsodium, detached tag) under a random nonce, bound
 * to the core and the index by associated data. The plaintext stands behind ENVELOPE_BYTES of free
 * space. `again` is the nonce of a block that another host has sealed, to make the very same one
 * from the very same bytes: under a nonce nothing else may ever be sealed.
 *
 * Envelope: u8 format, 16 bytes key id, 24 bytes nonce, 16 bytes tag, ciphertext.
 */
export function sealBlock(
  block: Buffer,
  { id, key }: SealingKey,
  core: Uint8Array,
  index: number,
  again: Uint8Array | null = null
): Buffer {
  const body = block.subarray(ENVELOPE_BYTES)
  const nonce = block.subarray(AT_NONCE, AT_TAG)
  const tag = block.subarray(AT_TAG, ENVELOPE_BYTES)
  block[0] = FORMAT
  block.set(id, AT_KEY_ID)
  if (again === null) sodium.randombytes_buf(nonce)
  else nonce.set(again)
  sodium.crypto_aead_xchacha20poly1305_ietf_encrypt_detached(
    body,
    tag,
    body,
    associated(core, index),
    null,
    nonce,
    asBuffer(key)
  )
  return block
}

/**
 * Opens a block into `out`, which has the block's length less ENVELOPE_BYTES. Throws INTEGRITY
 * when it is damaged.
 */
export function openBlock(
  block: Buffer,
  { key }: SealingKey,
  core: Uint8Array,
  index: number,
  out: Buffer
): void {
  try {
    sodium.crypto_aead_xchacha20poly1305_ietf_decrypt_detached(
      out,
      null,
      block.subarray(ENVELOPE_BYTES),
      block.subarray(AT_TAG, ENVELOPE_BYTES),
      associated(core, index),
      block.subarray(AT_NONCE, AT_TAG),
      asBuffer(key)
    )
  } catch (error) {
    throw damagedBlock(index, error)
  }
}

/** Under which key and nonce a block was sealed. */
export function envelopeOf(block: Buffer): { keyId: Buffer; nonce: Buffer } {
  return {
    keyId: Buffer.from(block.subarray(AT_KEY_ID, AT_NONCE)),
    nonce: Buffer.from(block.subarray(AT_NONCE, AT_TAG))
  }
}

/** The key id of an envelope, in hex. Throws INTEGRITY, NEWER_FORMAT. */
export function keyIdOf(block: Buffer, index: number): string {
  if (block.byteLength < ENVELOPE_BYTES + TAG_BYTES) throw damagedBlock(index)
  const format = block[0] ?? 0
  if (format > FORMAT) {
    throw new ParcelError('NEWER_FORMAT', 'a block is of a newer format: update hyperparcel')
  }
  if (format !== FORMAT) throw damagedBlock(index)
  return block.toString('hex', AT_KEY_ID, AT_NONCE)
}

function damagedBlock(index: number, cause?: unknown): ParcelError {
  return new ParcelError(
    'INTEGRITY',
    `block ${index} of a log is damaged: its seal does not open`,
    cause
  )
}

function associated(core: Uint8Array, index: number): Buffer {
  const bytes = Buffer.alloc(NS.envelope.byteLength + KEY_BYTES + 8)
  bytes.set(NS.envelope)
  bytes.set(core, NS.envelope.byteLength)
  bytes.writeBigUInt64LE(BigInt(index), NS.envelope.byteLength + KEY_BYTES)
  return bytes
}

/** What a worker thread was sent is a plain Uint8Array. */
function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
