import { ParcelError } from '../errors.js'
import { ENVELOPE_BYTES } from '../format/limits.js'
import { decodePack, rawLength } from '../format/pack.js'
import { unpad } from '../format/padding.js'
import { openBlock, type SealingKey } from '../keys/seal.js'
import { decompressSync } from './compress.js'
import { isNamed } from './id.js'

/** Opens a block of a `data` log and compares every item of it with its id. */
export interface CheckJob {
  /** Overwritten. */
  block: ArrayBuffer
  sealing: SealingKey
  core: Uint8Array
  index: number
}

/** Throws INTEGRITY. */
export function check({ block, sealing, core, index }: CheckJob): void {
  const sealed = Buffer.from(block)
  const plain = sealed.subarray(ENVELOPE_BYTES)
  openBlock(sealed, sealing, core, index, plain)
  const { codec, items, frame } = decodePack(unpad(plain))
  const raw = decompressSync(codec, frame, rawLength(items))
  let start = 0
  for (const { id, length } of items) {
    if (!isNamed(raw.subarray(start, start + length), id)) {
      throw new ParcelError('INTEGRITY', `an item of block ${index} does not have its id`)
    }
    start += length
  }
}
