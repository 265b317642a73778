import assert from 'node:assert/strict'
import { blake3 as blake3Of } from '@noble/hashes/blake3.js'
import sodium from 'sodium-native'

/**
 * A second implementation of what lib/format/README.md says, written from that text and sharing
 * no code with lib: if the two disagree, the text or the code is wrong.
 */

function blake2b(parts: readonly Buffer[], key?: Buffer): Buffer {
  const out = Buffer.alloc(32)
  sodium.crypto_generichash(out, Buffer.concat(parts), key)
  return out
}

export function namespace(name: string): Buffer {
  return blake2b([Buffer.from(`hyperparcel/1/${name}`)])
}

/** H(key; parts) of the README. */
export function hash(key: Buffer, ...parts: Buffer[]): Buffer {
  return blake2b(parts, key)
}

/** BLAKE3(key; bytes) of the README. */
export function blake3(key: Buffer, bytes: Buffer): Buffer {
  return Buffer.from(blake3Of(bytes, { key }))
}

export function sealingKey(
  kind: 'control' | 'meta' | 'data',
  secrets: { parcel: Buffer; epochKey: Buffer; controlKey: Buffer }
): { key: Buffer; id: Buffer } {
  const secret = kind === 'control' ? secrets.controlKey : secrets.epochKey
  const key = hash(secret, namespace(`${kind} key`), secrets.parcel)
  return { key, id: hash(key, namespace('key id')).subarray(0, 16) }
}

/** The body of a sealed block. */
export function openBlock(
  { key, id }: { key: Buffer; id: Buffer },
  core: Buffer,
  index: number,
  block: Buffer
): Buffer {
  assert.equal(block[0], 1)
  assert.deepEqual(block.subarray(1, 17), id)
  const position = Buffer.alloc(8)
  position.writeBigUInt64LE(BigInt(index))
  const plaintext = Buffer.alloc(block.byteLength - 57)
  sodium.crypto_aead_xchacha20poly1305_ietf_decrypt_detached(
    plaintext,
    null,
    block.subarray(57),
    block.subarray(41, 57),
    Buffer.concat([namespace('block envelope'), core, position]),
    block.subarray(17, 41),
    key
  )
  const length = plaintext.readUInt32LE(0)
  assert.ok(plaintext.subarray(4 + length).every((byte) => byte === 0))
  assert.equal(plaintext.byteLength, paddedLength(length))
  return plaintext.subarray(4, 4 + length)
}

export function paddedLength(body: number): number {
  for (const size of [256, 512, 1_024, 2_048, 4_096, 8_192]) if (body + 4 <= size) return size
  const over = (body + 4) % 8_192
  return over === 0 ? body + 4 : body + 4 - over + 8_192
}

export function verify(name: string, bytes: Buffer, signature: Buffer, publicKey: Buffer): boolean {
  const message = Buffer.concat([namespace(name), bytes])
  return sodium.crypto_sign_verify_detached(signature, message, publicKey)
}

/** Root of the id tree over encoded entries; null where all are holes. From the top down. */
export function treeRoot(entries: readonly Buffer[]): Buffer | null {
  let height = 0
  while (128 ** (height + 1) < entries.length) height++
  return entries.length === 0 ? null : subtree(entries, height)
}

function subtree(entries: readonly Buffer[], level: number): Buffer | null {
  if (entries.every((entry) => entry.equals(Buffer.from([0])))) return null
  const parts: Buffer[] = []
  if (level === 0) parts.push(...entries)
  const span = 128 ** level
  for (let at = 0; level > 0 && at < entries.length; at += span) {
    parts.push(subtree(entries.slice(at, at + span), level - 1) ?? Buffer.alloc(32))
  }
  const length = parts.length < 128 ? [parts.length] : [0x80, 1]
  const page = Buffer.concat([Buffer.from([level, ...length]), ...parts])
  return hash(namespace('manifest page'), page)
}
