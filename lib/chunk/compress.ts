import { Decoder, Encoder } from '@toondepauw/node-zstd'
import { ParcelError } from '../errors.js'
import type { Codec } from '../format/pack.js'

const LEVEL = 1
/** For what somebody waits for: an eighth smaller, at a quarter of the speed. */
const THOROUGH = 9
/** A frame must save at least 1/32, or the pack is stored as it is: reading it then costs nothing. */
const WORTH = 31 / 32
/** zstd 1.5.7 cuts a frame into blocks of this at the least, but for the last. */
const LEAST_BLOCK = 8_192
/** Pieces that tell whether the rest is worth the work. */
const TASTE = 8_192
const TASTES = 8

/** Kinds of blocks of a frame. */
const [RLE, COMPRESSED] = [1, 2]

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
  if (codec === 'none' ? frame.byteLength > most : isTooMuch(frame, most)) {
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
  if (isTooMuch(frame, length)) throw bad('it declares too much')
  return false
}

function ofLength(raw: Buffer, length: number): Buffer {
  if (raw.byteLength !== length) throw bad(`${raw.byteLength} bytes, not ${length}`)
  return raw
}

/**
 * Whether a frame is not one plain frame of up to `length` bytes, as its block headers say (RFC 8878
 * §3.1.1), so that a small one cannot be made to fill the memory: a raw or RLE block tells its length, a
 * compressed one gives up to 128 KiB. What passes gives 17 times `length` and 256 KiB at most.
 */
function isTooMuch(frame: Buffer, length: number): boolean {
  if (frame.byteLength < 9 || frame.readUInt32LE(0) !== 0xfd2fb528) return true
  const descriptor = frame[4] ?? 0
  const single = (descriptor & 0x20) !== 0
  const contentSize = [single ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0
  const dictionary = [0, 1, 2, 4][descriptor & 3] ?? 0
  let at = 5 + (single ? 0 : 1) + dictionary + contentSize
  let [plain, compressed] = [0, 0]
  while (at + 3 <= frame.byteLength) {
    const header = frame.readUIntLE(at, 3)
    const [type, size] = [(header >> 1) & 3, header >> 3]
    at += 3 + (type === RLE ? 1 : size)
    if (type === COMPRESSED) compressed++
    else plain += size
    if (plain > length || compressed > length / LEAST_BLOCK + 2) return true
    if ((header & 1) === 0) continue
    const checksum = (descriptor & 4) === 0 ? 0 : 4
    return at + checksum !== frame.byteLength
  }
  return true
}

function bad(why: string, cause?: unknown): ParcelError {
  return new ParcelError('INTEGRITY', `damaged pack: ${why}`, cause)
}
