import { readSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'
import { CHUNK_SIZE, HASH_BYTES } from '../format/limits.js'
import { chunkId, isZero } from './id.js'

/** Reads one segment of a file by its descriptor, which all threads of the process share, and names its chunks. */
export interface Job {
  job: number
  fd: number
  offset: number
  length: number
  /** A buffer to fill, handed back and forth so that none is allocated twice. */
  buffer: ArrayBuffer
}

/** `length` bytes were read; `ids` has 32 bytes a chunk, all zeros for a chunk of zeros. */
export interface Done {
  job: number
  buffer: ArrayBuffer
  length: number
  ids: ArrayBuffer
  error: { message: string; code: string } | null
}

const port = parentPort
if (port === null) throw new Error('this file is a worker thread')

port.on('message', ({ job, fd, offset, length, buffer }: Job) => {
  const bytes = Buffer.from(buffer, 0, length)
  const ids = Buffer.from(new ArrayBuffer(Math.ceil(length / CHUNK_SIZE) * HASH_BYTES))
  let read = 0
  let failure: Done['error'] = null
  try {
    while (read < length) {
      const count = readSync(fd, bytes, read, length - read, offset + read)
      if (count === 0) break
      read += count
    }
    for (let at = 0; at < read; at += CHUNK_SIZE) {
      const chunk = bytes.subarray(at, Math.min(at + CHUNK_SIZE, read))
      if (!isZero(chunk)) chunkId(chunk).copy(ids, (at / CHUNK_SIZE) * HASH_BYTES)
    }
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    failure = { message, code: error instanceof Error && 'code' in error ? String(error.code) : '' }
  }
  const done: Done = { job, buffer, length: read, ids: toArrayBuffer(ids), error: failure }
  port.postMessage(done, [done.buffer, done.ids])
})

function toArrayBuffer(bytes: Buffer): ArrayBuffer {
  const { buffer } = bytes
  if (!(buffer instanceof ArrayBuffer)) throw new TypeError('shared memory')
  return buffer
}
