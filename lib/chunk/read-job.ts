import { readSync } from 'node:fs'
import { CHUNK_SIZE, HASH_BYTES } from '../format/limits.js'
import { chunkId, isZero } from './id.js'

/** Reads one segment of a file by its descriptor, which all threads of the process share, and names its chunks. */
export interface ReadJob {
  fd: number
  offset: number
  length: number
  buffer: ArrayBuffer
}

/** `length` bytes were read; `ids` has 32 bytes a chunk, all zeros for a chunk of zeros. */
export interface ReadResult {
  buffer: ArrayBuffer
  length: number
  ids: ArrayBuffer
}

export function read({ fd, offset, length, buffer }: ReadJob): ReadResult {
  const bytes = Buffer.from(buffer, 0, length)
  const ids = new ArrayBuffer(Math.ceil(length / CHUNK_SIZE) * HASH_BYTES)
  let read = 0
  while (read < length) {
    const count = readSync(fd, bytes, read, length - read, offset + read)
    if (count === 0) break
    read += count
  }
  for (let at = 0; at < read; at += CHUNK_SIZE) {
    const chunk = bytes.subarray(at, Math.min(at + CHUNK_SIZE, read))
    if (!isZero(chunk)) chunkId(chunk).copy(Buffer.from(ids), (at / CHUNK_SIZE) * HASH_BYTES)
  }
  return { buffer, length: read, ids }
}
