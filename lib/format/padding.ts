import { LENGTH_BYTES, MAX_BLOCK } from './limits.js'
import { ParcelError } from '../errors.js'

/** As long as the longest padding. */
const ZEROS = Buffer.alloc(8_192)

/**
 * Length that a body of `length` bytes is padded to, so that a block's size says little: the next
 * power of two from 256 bytes to 8 KiB, above that the next multiple of 8 KiB (at most 1% of a
 * full pack).
 */
export function bucket(length: number): number {
  const needed = length + LENGTH_BYTES
  if (needed > 8_192) return Math.ceil(needed / 8_192) * 8_192
  let size = 256
  while (size < needed) size *= 2
  return size
}

/**
 * A plaintext block: u32 little-endian true length, body, zeros up to the bucket. `headroom`
 * bytes are left free in front for the envelope, so that sealing copies nothing.
 */
export function pad(parts: readonly Uint8Array[], headroom: number): Buffer {
  const length = parts.reduce((sum, part) => sum + part.byteLength, 0)
  const block = Buffer.allocUnsafe(headroom + bucket(length))
  let at = headroom + LENGTH_BYTES
  for (const part of parts) {
    block.set(part, at)
    at += part.byteLength
  }
  return padInPlace(block, length, headroom)
}

/**
 * Finishes a plaintext block whose body stands in its place already: writes the length before it
 * and zeros behind it. Returns the block without what is left of the buffer.
 */
export function padInPlace(buffer: Buffer, length: number, headroom: number): Buffer {
  const block = buffer.subarray(0, headroom + bucket(length))
  block.writeUInt32LE(length, headroom)
  return block.fill(0, headroom + LENGTH_BYTES + length)
}

/** The body of a plaintext block, as a view. Throws INTEGRITY when length or padding are wrong. */
export function unpad(block: Buffer): Buffer {
  const length = block.byteLength < LENGTH_BYTES ? -1 : block.readUInt32LE(0)
  if (length < 0 || block.byteLength > MAX_BLOCK || bucket(length) !== block.byteLength) {
    throw new ParcelError('INTEGRITY', 'damaged block: its length and its padding disagree')
  }
  const padding = block.subarray(LENGTH_BYTES + length)
  if (!padding.equals(ZEROS.subarray(0, padding.byteLength))) {
    throw new ParcelError('INTEGRITY', 'damaged block: its padding is not zeros')
  }
  return block.subarray(LENGTH_BYTES, LENGTH_BYTES + length)
}
