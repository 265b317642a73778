import { writeSync } from 'node:fs'
import { ParcelError } from '../errors.js'
import { ENVELOPE_BYTES, HASH_BYTES, SUBPAGE_SIZE, type Chunking } from '../format/limits.js'
import { decodePack, rawLength } from '../format/pack.js'
import { unpad } from '../format/padding.js'
import { openBlock, type SealingKey } from '../keys/seal.js'
import { decompressSync } from './compress.js'
import { chunkId } from './id.js'

/** Where a chunk of a pack goes, and what it must be. */
export interface ChunkWrite {
  ordinal: number
  fd: number
  /** Offset in the file. */
  at: number
  length: number
  /** 4 KiB pages that stay holes of the file. */
  holes: number
}

/** Opens a block and writes chunks of it to files, each verified against its id before. */
export interface UnpackJob {
  /** Overwritten. */
  block: ArrayBuffer
  sealing: SealingKey
  core: Uint8Array
  index: number
  writes: readonly ChunkWrite[]
  /** How the files are cut. */
  chunking: Chunking
  /** 32 bytes a write. */
  ids: Uint8Array
}

/** Throws INTEGRITY; errors of the file system as they are. */
export function unpack({ block, sealing, core, index, writes, chunking, ids }: UnpackJob): void {
  const sealed = Buffer.from(block)
  const plain = sealed.subarray(ENVELOPE_BYTES)
  openBlock(sealed, sealing, core, index, plain)
  const { codec, items, frame } = decodePack(unpad(plain))
  const raw = decompressSync(codec, frame, rawLength(items))
  let end = 0
  const starts = items.map(({ length }) => (end += length) - length)
  const wanted = Buffer.from(ids.buffer, ids.byteOffset, ids.byteLength)
  for (const [n, { ordinal, fd, at, length, holes }] of writes.entries()) {
    const item = items[ordinal]
    const start = starts[ordinal]
    if (item === undefined || start === undefined) {
      throw damaged(`a place names item ${ordinal} of a smaller pack`)
    }
    if (item.length !== length) throw damaged('a chunk of another length')
    const chunk = raw.subarray(start, start + length)
    const id = wanted.subarray(n * HASH_BYTES, (n + 1) * HASH_BYTES)
    if (!chunkId(chunk, chunking).equals(id)) throw damaged('a chunk does not have its id')
    writeAround(fd, chunk, at, holes)
  }
}

/** Writes a chunk but not its holes, which stay holes of the file. */
export function writeAround(fd: number, chunk: Buffer, offset: number, holes: number): void {
  let start = 0
  while (start < chunk.byteLength) {
    const isHole = (at: number): boolean => (holes & (1 << (at / SUBPAGE_SIZE))) !== 0
    let end = start
    while (end < chunk.byteLength && isHole(end) === isHole(start)) end += SUBPAGE_SIZE
    end = Math.min(end, chunk.byteLength)
    if (!isHole(start)) writeFully(fd, chunk.subarray(start, end), offset + start)
    start = end
  }
}

function writeFully(fd: number, bytes: Buffer, position: number): void {
  let written = 0
  while (written < bytes.byteLength) {
    written += writeSync(fd, bytes, written, bytes.byteLength - written, position + written)
  }
}

function damaged(why: string): ParcelError {
  return new ParcelError('INTEGRITY', `this version is damaged: ${why}`)
}
