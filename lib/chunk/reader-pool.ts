import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { ParcelError } from '../errors.js'
import { HASH_BYTES } from '../format/limits.js'
import type { Done, Job } from './worker.js'

/** Segments are this long, except a file's last. */
export const SEGMENT_SIZE = 1024 * 1024

/** A piece of a file, read and named off the main thread. Call `release` when done with `bytes`. */
export interface Segment {
  bytes: Buffer
  /** Id of chunk n of the segment; null when it is all zeros. */
  id(n: number): Buffer | null
  release(): void
}

interface Waiting {
  resolve: (segment: Segment) => void
  reject: (error: Error) => void
}

const NO_ID = Buffer.alloc(HASH_BYTES)

/** A few worker threads that read and hash. They start at the first use and do not keep the process alive. */
export class ReaderPool {
  readonly #size = Math.max(1, Math.min(4, availableParallelism()))
  readonly #workers: (Worker | undefined)[] = []
  readonly #waiting = new Map<number, Waiting>()
  readonly #spare: ArrayBuffer[] = []
  #next = 0

  /** Reads up to SEGMENT_SIZE bytes at `offset`; fewer at the end of the file. */
  read(fd: number, offset: number, length: number): Promise<Segment> {
    const job = this.#next++
    const worker = this.#worker(job % this.#size)
    const buffer = this.#spare.pop() ?? new ArrayBuffer(SEGMENT_SIZE)
    const message: Job = { job, fd, offset, length, buffer }
    // Only a read under way keeps the process alive.
    worker.ref()
    return new Promise((resolve, reject) => {
      this.#waiting.set(job, { resolve, reject })
      worker.postMessage(message, [buffer])
    })
  }

  async close(): Promise<void> {
    const workers = this.#workers.splice(0)
    await Promise.all(workers.map((worker) => worker?.terminate()))
    this.#fail(new ParcelError('INTERRUPTED', 'reading was interrupted'))
  }

  #worker(n: number): Worker {
    const known = this.#workers[n]
    if (known !== undefined) return known
    const worker = new Worker(new URL('./worker.js', import.meta.url))
    worker.on('message', (done: Done) => this.#settle(done))
    worker.on('error', (error: Error) => {
      this.#workers[n] = undefined
      this.#fail(error)
    })
    this.#workers[n] = worker
    return worker
  }

  #settle({ job, buffer, length, ids, error }: Done): void {
    const waiting = this.#waiting.get(job)
    this.#waiting.delete(job)
    if (this.#waiting.size === 0) for (const worker of this.#workers) worker?.unref()
    if (error !== null) {
      this.#spare.push(buffer)
      waiting?.reject(Object.assign(new Error(error.message), { code: error.code }))
      return
    }
    const names = Buffer.from(ids)
    waiting?.resolve({
      bytes: Buffer.from(buffer, 0, length),
      id(n) {
        const id = names.subarray(n * HASH_BYTES, (n + 1) * HASH_BYTES)
        return id.equals(NO_ID) ? null : id
      },
      release: () => {
        if (this.#spare.length < 16) this.#spare.push(buffer)
      }
    })
  }

  #fail(error: Error): void {
    for (const waiting of this.#waiting.values()) waiting.reject(error)
    this.#waiting.clear()
  }
}
