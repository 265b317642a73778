import { readSync } from 'node:fs'
import { CHUNK_SIZE, HASH_BYTES, type Chunking } from '../format/limits.js'
import { chunkId } from './id.js'
import { writeAround, type ChunkWrite } from './unpack-job.js'

/** Copies chunks from one file to others, those that are what they must be. */
export interface ReuseJob {
  /** Descriptor of the file that is read, at the places that are to be written. */
  from: number
  writes: readonly Omit<ChunkWrite, 'ordinal'>[]
  chunking: Chunking
  /** 32 bytes a write. */
  ids: Uint8Array
}

/** A thread does one job at a time. */
const buffer = Buffer.alloc(CHUNK_SIZE)

/** Which of the chunks were there, and are written now. Throws errors of a write as they are. */
export function reuse({ from, writes, chunking, ids }: ReuseJob): boolean[] {
  const wanted = Buffer.from(ids.buffer, ids.byteOffset, ids.byteLength)
  return writes.map(({ fd, at, length, holes }, n) => {
    const chunk = buffer.subarray(0, length)
    if (!isRead(from, chunk, at)) return false
    const id = wanted.subarray(n * HASH_BYTES, (n + 1) * HASH_BYTES)
    if (!chunkId(chunk, chunking).equals(id)) return false
    writeAround(fd, chunk, at, holes)
    return true
  })
}

/** What cannot be read here is to be had elsewhere. */
function isRead(fd: number, into: Buffer, at: number): boolean {
  try {
    return readSync(fd, into, 0, into.byteLength, at) === into.byteLength
  } catch {
    return false
  }
}
