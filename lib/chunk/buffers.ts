import { ENVELOPE_BYTES, LENGTH_BYTES } from '../format/limits.js'
import { bucket } from '../format/padding.js'

/** Raw bytes of a segment of a file, and of a pack: their buffers are the same. */
export const SEGMENT_SIZE = 1024 * 1024
/** Items of a pack, at most; with it the largest block is known. */
export const PACK_ITEMS = 2_048
const MOST_HEADER = 16 + PACK_ITEMS * (32 + 3)
export const BLOCK_ROOM = ENVELOPE_BYTES + bucket(LENGTH_BYTES + MOST_HEADER + SEGMENT_SIZE)

/**
 * Buffers that go round between the threads. Measured: with a new buffer a segment and a block a
 * third of all time went to collecting them as garbage.
 */
export class Buffers {
  readonly #size: number
  readonly #most: number
  readonly #spare: ArrayBuffer[] = []

  constructor(size: number, most: number) {
    this.#size = size
    this.#most = most
  }

  take(): ArrayBuffer {
    return this.#spare.pop() ?? new ArrayBuffer(this.#size)
  }

  give(buffer: ArrayBuffer): void {
    if (this.#spare.length < this.#most && buffer.byteLength === this.#size) {
      this.#spare.push(buffer)
    }
  }
}
