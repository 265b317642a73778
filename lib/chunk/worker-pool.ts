import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { ERROR_CODES, ParcelError } from '../errors.js'
import { HASH_BYTES } from '../format/limits.js'
import { BLOCK_ROOM, Buffers, SEGMENT_SIZE } from './buffers.js'
import type { CheckJob } from './check-job.js'
import { errorOf } from './failure.js'
import { FewThings } from './few.js'
import { PackedStats, STATS_FIELDS, type FileStats } from './file-stats.js'
import type { Answer, Jobs, Order } from './jobs.js'
import type { ListedFolder, Listing } from './list-job.js'
import type { MeasureResult } from './measure-job.js'
import type { PackJob } from './pack-job.js'
import { joinPaths } from './paths.js'
import type { SmallFile, WantedFile } from './read-files-job.js'
import type { ReuseJob } from './reuse-job.js'
import { namesJob, type NamedTwice } from './second-names.js'
import type { UnpackJob } from './unpack-job.js'
import type { SmallWrite } from './write-files-job.js'

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
  order: Order<keyof Jobs>
  transfer: ArrayBuffer[]
  /** A thread answers in order: what comes is what this job gives. */
  resolve: (result: never) => void
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
const ASKING: ReadonlySet<keyof Jobs> = new Set(['read', 'readFiles', 'list', 'measure'])

/**
 * A few threads for all that costs time: reading, hashing, compressing, sealing, and the way back.
 * They start when there is more to do than a few things take, and do not keep the process alive.
 */
export class WorkerPool {
  readonly #size = Math.max(1, Math.min(4, availableParallelism()))
  readonly #threads: Thread[] = []
  /** What makes room for more comes before what asks for more. */
  readonly #urgent: Waiting[] = []
  readonly #reads: Waiting[] = []
  readonly #segments = new Buffers(SEGMENT_SIZE, SPARE)
  readonly #blocks = new Buffers(BLOCK_ROOM, SPARE)
  readonly #few = new FewThings()
  #isClosed = false

  /** Reads up to SEGMENT_SIZE bytes at `offset`; fewer at the end of the file. */
  async read(fd: number, offset: number, length: number): Promise<Segment> {
    const buffer = this.#segments.take()
    const result = await this.#run('read', { fd, offset, length, buffer }, [buffer])
    const ids = Buffer.from(result.ids)
    return {
      bytes: Buffer.from(result.buffer, 0, result.length),
      id: (n) => idAt(ids, n),
      release: () => this.#segments.give(result.buffer),
      take: () => result.buffer
    }
  }

  /**
   * Reads small files, SEGMENT_SIZE bytes of them at most: null for one that is not of the `size` it had when it
   * was found, did not stand still, or has holes of which it takes more to tell where they are.
   */
  async readFiles(
    wanted: readonly WantedFile[]
  ): Promise<{ files: (SmallFile | null)[]; release: () => void }> {
    const few = this.#isWithoutThreads ? await this.#few.readFiles(wanted) : null
    if (few !== null) return { files: few, release: () => {} }
    const buffer = this.#segments.take()
    const paths = joinPaths(wanted.map(({ absolute }) => absolute))
    const sizes = wanted.map(({ size }) => size)
    const result = await this.#run('readFiles', { paths, sizes, buffer }, [buffer])
    const [ids, stats] = [Buffer.from(result.ids), new BigInt64Array(result.stats)]
    let end = 0
    const files = sizes.map((size, n) => {
      end += size
      const openedAt = result.openedAt[n] ?? 0
      if (openedAt === 0) return null
      return {
        bytes: Buffer.from(result.buffer, end - size, size),
        id: idAt(ids, n),
        holes: result.holes[n] ?? 0,
        stats: new PackedStats(stats, n),
        openedAt: BigInt(openedAt) * 1_000_000n
      }
    })
    return { files, release: () => this.#segments.give(result.buffer) }
  }

  /** Lists folders, and looks at what is in each, as lstat(2) does; an error for what cannot be had. */
  async list(folders: readonly Buffer[]): Promise<(Listing | Error)[]> {
    const few = this.#isWithoutThreads ? await this.#few.list(folders) : null
    if (few !== null) return few
    const listed = await this.#run('list', { folders: joinPaths(folders) }, [])
    return listed.map(listing)
  }

  /**
   * Bytes on disk of the regular files in a folder and below it; what cannot be read counts nothing. Ends early,
   * with what it has added up so far, when `signal` is aborted.
   */
  async measure(folder: Buffer, signal: AbortSignal): Promise<number> {
    const few = this.#isWithoutThreads ? await this.#few.measure(folder, signal) : null
    if (few !== null) return few
    let bytes = 0
    for (let folders: string | null = joinPaths([folder]); folders !== null;) {
      if (signal.aborted) break
      const result: MeasureResult = await this.#run('measure', { folders }, [])
      bytes += result.bytes
      folders = result.left
    }
    return bytes
  }

  /** An empty buffer of SEGMENT_SIZE, for a pack to be filled. */
  segmentBuffer(): ArrayBuffer {
    return this.#segments.take()
  }

  /** Makes a sealed block; `raw` is taken over. */
  async pack(job: Omit<PackJob, 'out'>): Promise<PackedBlock> {
    const out = this.#blocks.take()
    const result = await this.#run('pack', { ...job, out }, [job.raw, out])
    this.#segments.give(result.raw)
    return {
      bytes: Buffer.from(result.out, 0, result.length),
      body: result.body,
      release: () => this.#blocks.give(result.out)
    }
  }

  /** Makes small files out of their chunks, SEGMENT_SIZE bytes at most; gives what they are then. */
  async writeFiles(
    files: readonly { path: Buffer; chunk: Buffer | null; file: SmallWrite }[]
  ): Promise<FileStats[]> {
    const buffer = this.#segments.take()
    let end = 0
    for (const { chunk } of files) {
      if (chunk === null) continue
      new Uint8Array(buffer).set(chunk, end)
      end += chunk.byteLength
    }
    const paths = joinPaths(files.map(({ path }) => path))
    const all = files.map(({ file }) => file)
    const result = await this.#run('writeFiles', { paths, files: all, buffer }, [buffer])
    this.#segments.give(result.buffer)
    const made = new BigInt64Array(result.made)
    return files.map((_, n) => new PackedStats(made, n))
  }

  /** Gives files a second name, takes it again, or looks at them: null for one that is not as it was known. */
  async named(
    what: 'linkFiles' | 'unlinkFiles' | 'lookAtFiles',
    files: readonly NamedTwice[]
  ): Promise<(FileStats | null)[]> {
    return statsOf(await this.#run(what, namesJob(files), []))
  }

  /** Writes chunks of a sealed block to files; `block` is taken over. Throws INTEGRITY. */
  unpack(job: UnpackJob): Promise<void> {
    return this.#run('unpack', job, [job.block])
  }

  /** Copies those chunks that a file has at their places, each verified; says which. */
  reuse(job: ReuseJob): Promise<boolean[]> {
    return this.#run('reuse', job, [])
  }

  /** Compares every item of a sealed block with its id; `block` is taken over. Throws INTEGRITY. */
  check(job: CheckJob): Promise<void> {
    return this.#run('check', job, [job.block])
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

  get #isWithoutThreads(): boolean {
    return this.#threads.length === 0 && !this.#isClosed
  }

  #run<Name extends keyof Jobs>(
    name: Name,
    job: Jobs[Name][0],
    transfer: ArrayBuffer[]
  ): Promise<Jobs[Name][1]> {
    if (this.#isClosed) return Promise.reject(interrupted())
    return new Promise((resolve, reject) => {
      const queue = ASKING.has(name) ? this.#reads : this.#urgent
      queue.push({ order: { name, job }, transfer, resolve, reject })
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
      thread.worker.postMessage(next.order, next.transfer)
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
    worker.on('message', (answer: Answer<never>) => this.#settle(thread, answer))
    worker.on('error', (error: Error) => {
      const at = this.#threads.indexOf(thread)
      if (at !== -1) this.#threads.splice(at, 1)
      for (const { reject } of thread.sent.splice(0)) reject(error)
      this.#dispatch()
    })
    this.#threads.push(thread)
    return thread
  }

  #settle(thread: Thread, { result, error }: Answer<never>): void {
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

function listing({ failure, names: joined, stats, failures }: ListedFolder): Listing | Error {
  if (failure !== null) return errorOf(failure)
  const all = new BigInt64Array(stats)
  const names: Buffer[] = []
  const bytes = Buffer.from(joined)
  for (let start = 0; start < bytes.byteLength;) {
    const end = bytes.indexOf(0, start)
    names.push(bytes.subarray(start, end))
    start = end + 1
  }
  const looked: Listing['stats'] = names.map((_, n) => new PackedStats(all, n))
  for (const [n, each] of failures) looked[n] = errorOf(each)
  return { names, stats: looked }
}

function statsOf(packed: ArrayBuffer): (FileStats | null)[] {
  const all = new BigInt64Array(packed)
  const files = Array.from({ length: all.length / STATS_FIELDS }, (_, n) => new PackedStats(all, n))
  return files.map((stats) => (stats.isFile() ? stats : null))
}

function idAt(ids: Buffer, n: number): Buffer | null {
  const id = ids.subarray(n * HASH_BYTES, (n + 1) * HASH_BYTES)
  return id.equals(NO_ID) ? null : id
}

function revived({ message, code, isOurs }: NonNullable<Answer['error']>): Error {
  const ours = isOurs ? ERROR_CODES.find((known) => known === code) : undefined
  if (ours !== undefined) return new ParcelError(ours, message)
  return errorOf({ message, code })
}

function interrupted(): ParcelError {
  return new ParcelError('INTERRUPTED', 'reading was interrupted')
}
