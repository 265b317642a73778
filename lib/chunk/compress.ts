import { Decoder, Encoder } from '@toondepauw/node-zstd'
import { ParcelError } from '../errors.js'
import type { Codec } from '../format/pack.js'

const LEVEL = 1
/** For what somebody waits for: an eighth smaller, at a quarter of the speed. */
const THOROUGH = 9
/** A frame must save at least 1/32, or the pack is stored as it is: reading it then costs nothing. */
const WORTH = 31 / 32
const BLOCK_MAX = 131_072
/** Pieces that tell whether the rest is worth the work. */
const TASTE = 8_192
const TASTES = 8

const encoder = new Encoder(LEVEL)
const thorough = new Encoder(THOROUGH)
const decoder = new Decoder()

/** One zstd frame over the bytes; null when it does not pay. */
export function compressSync(raw: Buffer, { isThorough = false } = {}): Buffer | null {
  const frame = (isThorough ? thorough : encoder).encodeSync(raw)
  return frame.byteLength > raw.byteLength * WORTH ? null : frame
}

/** Whether a taste of the bytes becomes smaller: a sixteenth of the work. */
export function looksCompressible(raw: Buffer): boolean {
  const step = Math.max(TASTE, Math.floor(raw.byteLength / TASTES))
  for (let at = 0; at < raw.byteLength; at += step) {
    if (compressSync(raw.subarray(at, at + TASTE)) !== null) return true
  }
  return false
}

/** One zstd frame over the bytes, made on libuv's threads; the bytes themselves when it does not pay. */
export async function compress(raw: Buffer): Promise<{ codec: Codec; frame: Buffer }> {
  const frame = await encoder.encode(raw)
  if (frame.byteLength > raw.byteLength * WORTH) return { codec: 'none', frame: raw }
  return { codec: 'zstd', frame }
}

/** Undoes `compress`. Throws INTEGRITY unless the frame gives exactly `length` bytes. */
export async function decompress(codec: Codec, frame: Buffer, length: number): Promise<Buffer> {
  if (isPlain(codec, frame, length)) return frame
  let raw: Buffer
  try {
    raw = await decoder.decode(frame)
  } catch (error) {
    throw bad('its frame does not decompress', error)
  }
  return ofLength(raw, length)
}

/** Undoes `compress` where the length is not known. Throws INTEGRITY when it is more than `most` bytes. */
export async function decompressUpTo(codec: Codec, frame: Buffer, most: number): Promise<Buffer> {
  if (codec === 'none' ? frame.byteLength > most : largestOutput(frame) > most + 2 * BLOCK_MAX) {
    throw bad('it declares too much')
  }
  if (codec === 'none') return frame
  const raw = await decoder.decode(frame).catch((error: unknown) => {
    throw bad('its frame does not decompress', error)
  })
  if (raw.byteLength > most) throw bad('it is too long')
  return raw
}

/** Like `decompress`, in this thread. */
export function decompressSync(codec: Codec, frame: Buffer, length: number): Buffer {
  if (isPlain(codec, frame, length)) return frame
  let raw: Buffer
  try {
    raw = decoder.decodeSync(frame)
  } catch (error) {
    throw bad('its frame does not decompress', error)
  }
  return ofLength(raw, length)
}

function isPlain(codec: Codec, frame: Buffer, length: number): boolean {
  if (codec === 'none' && frame.byteLength !== length) {
    throw bad(`${frame.byteLength} bytes, not ${length}`)
  }
  if (codec === 'none') return true
  if (largestOutput(frame) > length + 2 * BLOCK_MAX) throw bad('it declares too much')
  return false
}

function ofLength(raw: Buffer, length: number): Buffer {
  if (raw.byteLength !== length) throw bad(`${raw.byteLength} bytes, not ${length}`)
  return raw
}

/**
 * An upper bound of what a frame decompresses to, read from its block headers (RFC 8878 §3.1.1),
 * so that a small frame cannot be made to fill the memory. Infinity for what is not one plain frame.
 */
function largestOutput(frame: Buffer): number {
  if (frame.byteLength < 9 || frame.readUInt32LE(0) !== 0xfd2fb528) return Infinity
  const descriptor = frame[4] ?? 0
  const single = (descriptor & 0x20) !== 0
  const contentSize = [single ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0
  const dictionary = [0, 1, 2, 4][descriptor & 3] ?? 0
  let at = 5 + (single ? 0 : 1) + dictionary + contentSize
  for (let blocks = 1; at + 3 <= frame.byteLength; blocks++) {
    const header = frame.readUIntLE(at, 3)
    const isRle = ((header >> 1) & 3) === 1
    at += 3 + (isRle ? 1 : header >> 3)
    if ((header & 1) === 0) continue
    const checksum = (descriptor & 4) === 0 ? 0 : 4
    return at + checksum === frame.byteLength ? blocks * BLOCK_MAX : Infinity
  }
  return Infinity
}

function bad(why: string, cause?: unknown): ParcelError {
  return new ParcelError('INTEGRITY', `damaged pack: ${why}`, cause)
}
