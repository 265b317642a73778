import { ENVELOPE_BYTES, HASH_BYTES, LENGTH_BYTES } from '../format/limits.js'
import { encodePackHeader, type Codec, type PackKind } from '../format/pack.js'
import { padInPlace } from '../format/padding.js'
import { sealBlock, type SealingKey } from '../keys/seal.js'
import { compressSync, looksCompressible } from './compress.js'

/** Makes a block of a pack: compresses, pads, seals. */
export interface PackJob {
  of: PackKind
  /** All items, one after the other. */
  raw: ArrayBuffer
  /** 32 bytes an item. */
  ids: Uint8Array
  lengths: Uint32Array
  compress: boolean
  /** Takes longer, for what somebody waits for. */
  isThorough?: boolean
  /** To make a block again that another host has made: its codec and its nonce. */
  again?: { codec: Codec; nonce: Uint8Array }
  sealing: SealingKey
  core: Uint8Array
  index: number
  /** A buffer of BLOCK_ROOM to make the block in. */
  out: ArrayBuffer
}

export interface PackResult {
  raw: ArrayBuffer
  out: ArrayBuffer
  /** Length of the sealed block in `out`. */
  length: number
  /** Length of the body in it. */
  body: number
}

/** The last pack of this thread did not become smaller: the next one is tasted first. */
let isDoubtful = false

export function pack(job: PackJob): PackResult {
  const { raw, out, lengths, ids, sealing, core, index } = job
  const bytes = Buffer.from(
    raw,
    0,
    lengths.reduce((sum, length) => sum + length, 0)
  )
  const items = Array.from(lengths, (length, n) => ({
    id: Buffer.from(ids.buffer, ids.byteOffset + n * HASH_BYTES, HASH_BYTES),
    length
  }))
  const frame = frameOf(job, bytes)
  const header = encodePackHeader(job.of, frame === null ? 'none' : 'zstd', items)
  const block = Buffer.from(out)
  const start = ENVELOPE_BYTES + LENGTH_BYTES
  block.set(header, start)
  block.set(frame ?? bytes, start + header.byteLength)
  const body = header.byteLength + (frame ?? bytes).byteLength
  const sealed = sealBlock(
    padInPlace(block, body, ENVELOPE_BYTES),
    sealing,
    core,
    index,
    job.again?.nonce
  )
  return { raw, out, length: sealed.byteLength, body }
}

/** null: the bytes as they are. */
function frameOf({ compress, isThorough = false, again }: PackJob, bytes: Buffer): Buffer | null {
  if (again !== undefined) return again.codec === 'zstd' ? compressSync(bytes) : null
  if (!compress || (isDoubtful && !looksCompressible(bytes))) return null
  const frame = compressSync(bytes, { isThorough })
  isDoubtful = frame === null
  return frame
}
