import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { ERROR_CODES, ParcelError } from '../errors.js'
import { HASH_BYTES } from '../format/limits.js'
import { BLOCK_ROOM, Buffers, SEGMENT_SIZE } from './buffers.js'
import type { CheckJob } from './check-job.js'
import type { PackJob } from './pack-job.js'
import type { UnpackJob } from './unpack-job.js'
import type { Done, Job, Result } from './worker.js'

/** A piece of a file, read and named off the main thread. Call `release` when done with `bytes`. */
export interface Segment {
  bytes: Buffer
  /** Id of chunk n of the segment; null when it is all zeros. */
  id(n: number): Buffer | null
  release(): void
  /** Takes the buffer away from the segment, which must not be released then. */
  take(): ArrayBuffer
}

/** A block made by a thread. Call `release` when `bytes` have been appended. */
export interface PackedBlock {
  bytes: Buffer
  /** Length of the body in it. */
  body: number
  release(): void
}

interface Waiting {
  job: Job
  transfer: ArrayBuffer[]
  resolve: (result: Result) => void
  reject: (error: Error) => void
}

interface Thread {
  worker: Worker
  /** Jobs it was sent, oldest first: it answers in order. */
  sent: Waiting[]
}

/** A thread has one job and the next one: it never waits for the main thread. */
const AT_ONCE = 2
const SPARE = 12

/**
 * A few threads for all that costs time: reading, hashing, compressing, sealing, and the way back.
 * They start at the first use and do not keep the process alive.
 */
export class WorkerPool {
  readonly #size = Math.max(1, Math.min(4, availableParallelism()))
  readonly #threads: Thread[] = []
  /** What makes room for more comes before what asks for more. */
  readonly #urgent: Waiting[] = []
  readonly #reads: Waiting[] = []
  readonly #segments = new Buffers(SEGMENT_SIZE, SPARE)
  readonly #blocks = new Buffers(BLOCK_ROOM, SPARE)
  #isClosed = false

  /** Reads up to SEGMENT_SIZE bytes at `offset`; fewer at the end of the file. */
  async read(fd: number, offset: number, length: number): Promise<Segment> {
    const buffer = this.#segments.take()
    const result = await this.#run({ kind: 'read', fd, offset, length, buffer }, [buffer])
    if (result === undefined || !('ids' in result)) throw new Error('a read gave no bytes')
    const ids = Buffer.from(result.ids)
    return {
      bytes: Buffer.from(result.buffer, 0, result.length),
      id(n) {
        const id = ids.subarray(n * HASH_BYTES, (n + 1) * HASH_BYTES)
        return id.equals(NO_ID) ? null : id
      },
      release: () => this.#segments.give(result.buffer),
      take: () => result.buffer
    }
  }

  /** An empty buffer of SEGMENT_SIZE, for a pack to be filled. */
  segmentBuffer(): ArrayBuffer {
    return this.#segments.take()
  }

  /** Makes a sealed block; `raw` is taken over. */
  async pack(job: Omit<PackJob, 'kind' | 'out'>): Promise<PackedBlock> {
    const out = this.#blocks.take()
    const result = await this.#run({ ...job, kind: 'pack', out }, [job.raw, out])
    if (result === undefined || !('out' in result)) throw new Error('a pack gave no block')
    this.#segments.give(result.raw)
    return {
      bytes: Buffer.from(result.out, 0, result.length),
      body: result.body,
      release: () => this.#blocks.give(result.out)
    }
  }

  /** Writes chunks of a sealed block to files; `block` is taken over. Throws INTEGRITY. */
  async unpack(job: Omit<UnpackJob, 'kind'>): Promise<void> {
    await this.#run({ ...job, kind: 'unpack' }, [job.block])
  }

  /** Compares every item of a sealed block with its id; `block` is taken over. Throws INTEGRITY. */
  async check(job: Omit<CheckJob, 'kind'>): Promise<void> {
    await this.#run({ ...job, kind: 'check' }, [job.block])
  }

  async close(): Promise<void> {
    this.#isClosed = true
    const threads = this.#threads.splice(0)
    const waiting = [...threads.flatMap(({ sent }) => sent), ...this.#urgent, ...this.#reads]
    this.#urgent.length = 0
    this.#reads.length = 0
    await Promise.all(threads.map(({ worker }) => worker.terminate()))
    for (const { reject } of waiting) reject(interrupted())
  }

  #run(job: Job, transfer: ArrayBuffer[]): Promise<Result> {
    if (this.#isClosed) return Promise.reject(interrupted())
    return new Promise((resolve, reject) => {
      const queue = job.kind === 'read' ? this.#reads : this.#urgent
      queue.push({ job, transfer, resolve, reject })
      this.#dispatch()
    })
  }

  #dispatch(): void {
    for (;;) {
      const thread = this.#idlest()
      if (thread === null) return
      const next = this.#urgent.shift() ?? this.#reads.shift()
      if (next === undefined) return
      // Only work under way keeps the process alive.
      if (thread.sent.length === 0) thread.worker.ref()
      thread.sent.push(next)
      thread.worker.postMessage(next.job, next.transfer)
    }
  }

  #idlest(): Thread | null {
    let idlest: Thread | null = null
    for (const thread of this.#threads) {
      if (idlest === null || thread.sent.length < idlest.sent.length) idlest = thread
    }
    const isBusy = idlest === null || idlest.sent.length > 0
    if (isBusy && this.#threads.length < this.#size && this.#urgent.length + this.#reads.length > 0)
      return this.#start()
    return idlest !== null && idlest.sent.length < AT_ONCE ? idlest : null
  }

  #start(): Thread {
    const worker = new Worker(new URL('./worker.js', import.meta.url))
    const thread: Thread = { worker, sent: [] }
    worker.unref()
    worker.on('message', (done: Done) => this.#settle(thread, done))
    worker.on('error', (error: Error) => {
      const at = this.#threads.indexOf(thread)
      if (at !== -1) this.#threads.splice(at, 1)
      for (const { reject } of thread.sent.splice(0)) reject(error)
      this.#dispatch()
    })
    this.#threads.push(thread)
    return thread
  }

  #settle(thread: Thread, { result, error }: Done): void {
    // Once closed, the end of the thread itself is waited for.
    if (this.#isClosed) return
    const waiting = thread.sent.shift()
    if (thread.sent.length === 0) thread.worker.unref()
    if (error === null) waiting?.resolve(result)
    else waiting?.reject(revived(error))
    this.#dispatch()
  }
}

const NO_ID = Buffer.alloc(HASH_BYTES)

function revived({ message, code, isOurs }: NonNullable<Done['error']>): Error {
  const ours = isOurs ? ERROR_CODES.find((known) => known === code) : undefined
  if (ours !== undefined) return new ParcelError(ours, message)
  return Object.assign(new Error(message), { code })
}

function interrupted(): ParcelError {
  return new ParcelError('INTERRUPTED', 'reading was interrupted')
}
