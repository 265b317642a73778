import { CHUNK_SIZE, CHUNKING, type Chunking } from '../format/limits.js'
import { fastKeyedHash, keyedHash } from '../keys/hash.js'
import { NS } from '../keys/namespaces.js'

const fastChunkId = fastKeyedHash(NS.chunk)
const ZEROS = Buffer.alloc(CHUNK_SIZE)

/** The hash of a chunk's plaintext under a fixed domain key. */
export function chunkId(chunk: Buffer, chunking: Chunking = CHUNKING): Buffer {
  return chunking === 1 ? keyedHash(NS.chunk, chunk) : fastChunkId(chunk)
}

/** The hash of a manifest page, id or place. */
export function pageHash(page: Buffer): Buffer {
  return keyedHash(NS.page, page)
}

/** Whether bytes are what an id names: a chunk of either chunking, or a page of a tree. */
export function isNamed(bytes: Buffer, id: Buffer): boolean {
  return [chunkId(bytes), chunkId(bytes, 1), pageHash(bytes)].some((hash) => hash.equals(id))
}

/** Whether a range of at most one chunk is all zeros. */
export function isZero(chunk: Buffer): boolean {
  return chunk.equals(ZEROS.subarray(0, chunk.byteLength))
}
