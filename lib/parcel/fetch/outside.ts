import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { lstat, open, realpath, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { extents, isSparse } from '../../chunk/extents.js'
import type { FileStats } from '../../chunk/file-stats.js'
import { spans, wholeFile } from '../../chunk/spans.js'
import type { WorkerPool } from '../../chunk/worker-pool.js'
import { ParcelError } from '../../errors.js'
import { CHUNK_SIZE } from '../../format/limits.js'
import { readSealed, writeSealed } from '../../keys/at-rest.js'
import { keyedHash } from '../../keys/hash.js'
import { NS } from '../../keys/namespaces.js'
import { CORE_PREFIX, type ChunkIndex, type Location } from '../../log/chunk-index.js'
import type { Work } from '../../progress.js'
import { walk } from '../commit/walk.js'

const FILE = 'lookaside'
const schema = z.object({
  format: z.literal(1),
  paths: z.array(z.string()),
  /** Files whose chunks are in the index, and how they were then. */
  files: z.array(z.object({ path: z.string(), stamp: z.string() }))
})
/** More files than these are not looked into. */
const MOST_FILES = 200_000
/** Where chunks of files outside of all parcels are in the index. */
const DOMAIN = keyedHash(NS.index, Buffer.from('outside'))

/**
 * Folders and images that the user has named as places where chunks may be found: other machines'
 * disks, an unpacked system, a stick that is not always there. Each file is cut and indexed once,
 * and again when it has changed. What is read there is only ever a hint, checked by whoever uses it.
 */
export class Outside {
  readonly #path: string
  readonly #key: Buffer
  readonly #index: ChunkIndex
  readonly #pool: WorkerPool
  readonly #paths = new Set<string>()
  /** By the key that stands in the index. */
  readonly #files = new Map<string, { path: string; stamp: string }>()

  private constructor(home: string, key: Buffer, index: ChunkIndex, pool: WorkerPool) {
    this.#path = join(home, FILE)
    this.#key = key
    this.#index = index
    this.#pool = pool
  }

  /** What was named before is remembered, sealed. */
  static async open(
    home: string,
    key: Buffer,
    index: ChunkIndex,
    pool: WorkerPool
  ): Promise<Outside> {
    const outside = new Outside(home, key, index, pool)
    const bytes = await readSealed(outside.#path, key).catch(() => null)
    const known = bytes === null ? null : schema.safeParse(parseJson(bytes.toString()))
    if (known?.success !== true) return outside
    for (const path of known.data.paths) outside.#paths.add(path)
    for (const file of known.data.files) outside.#files.set(keyOf(file.path).toString('hex'), file)
    return outside
  }

  get isEmpty(): boolean {
    return this.#files.size === 0
  }

  get paths(): readonly string[] {
    return [...this.#paths]
  }

  /** Adds places and indexes what is new or changed in all. Throws USAGE for one that is not there. */
  async look(paths: readonly string[], work: Work): Promise<void> {
    for (const path of paths) {
      const real = await realpath(path).catch((error: unknown) => {
        throw new ParcelError('USAGE', `there is no ${path} to look for chunks in`, error)
      })
      this.#paths.add(real)
    }
    const seen = new Set<string>()
    let done = 0
    for (const root of this.#paths) {
      for await (const { path, stats } of filesBelow(root, this.#pool)) {
        work.signal.throwIfAborted()
        if (seen.size >= MOST_FILES) break
        seen.add(path)
        const stamp = stampOf(stats)
        const key = keyOf(path)
        if (this.#files.get(key.toString('hex'))?.stamp === stamp) continue
        const onBytes = (count: number): void => {
          done += count
          work.report({ step: 'indexing', done, total: 0, unit: 'bytes' })
        }
        if (!(await this.#indexFile(path, key, { signal: work.signal, onBytes }))) continue
        this.#files.set(key.toString('hex'), { path, stamp })
      }
    }
    await this.#save()
  }

  /** The bytes that are where each item was once seen; null for none. Not checked. */
  async find(ids: readonly Buffer[]): Promise<(Buffer | null)[]> {
    if (this.isEmpty) return ids.map(() => null)
    const locations = await this.#index.find(DOMAIN, ids)
    return Promise.all(locations.map((location) => location && this.#read(location)))
  }

  async #read({ core, block }: Location): Promise<Buffer | null> {
    const file = this.#files.get(core.toString('hex'))
    if (file === undefined) return null
    try {
      const handle = await openFile(file.path)
      if (handle === null) return null
      try {
        const bytes = Buffer.allocUnsafe(CHUNK_SIZE)
        const { bytesRead } = await handle.read(bytes, 0, CHUNK_SIZE, block * CHUNK_SIZE)
        return bytesRead === 0 ? null : bytes.subarray(0, bytesRead)
      } finally {
        await handle.close()
      }
    } catch {
      // A stick that was pulled out, a file that is gone: it is fetched instead.
      return null
    }
  }

  /** false: it could not be read. */
  async #indexFile(
    path: string,
    key: Buffer,
    { signal, onBytes }: { signal: AbortSignal; onBytes: (count: number) => void }
  ): Promise<boolean> {
    const handle = await openFile(path)
    if (handle === null) return false
    try {
      const stats = await handle.stat({ bigint: true })
      const size = Number(stats.size)
      const parts = isSparse(stats) ? spans(extents(handle.fd), size) : wholeFile(size)
      for await (const part of parts) {
        signal.throwIfAborted()
        if (part.kind !== 'data') continue
        const at = part.chunk * CHUNK_SIZE
        const length = Math.min(part.masks.length * CHUNK_SIZE, size - at)
        const segment = await this.#pool.read(handle.fd, at, length)
        onBytes(length)
        const items: { id: Buffer; location: Location }[] = []
        for (let n = 0; n * CHUNK_SIZE < segment.bytes.byteLength; n++) {
          const id = segment.id(n)
          const block = at / CHUNK_SIZE + n
          if (id !== null)
            items.push({ id: Buffer.from(id), location: { core: key, block, ordinal: 0 } })
        }
        segment.release()
        await this.#index.add(DOMAIN, items)
      }
      return true
    } finally {
      await handle.close()
    }
  }

  async #save(): Promise<void> {
    const value = { format: 1, paths: [...this.#paths], files: [...this.#files.values()] }
    await writeSealed(this.#path, this.#key, Buffer.from(JSON.stringify(value)))
  }
}

/** null: there is no regular file, or not for us. What took its place may be a pipe, which would be waited for. */
async function openFile(path: string): Promise<FileHandle | null> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
  const handle = await open(path, flags).catch(() => null)
  if (handle === null) return null
  const stats = await handle.stat().catch(() => null)
  if (stats?.isFile() === true) return handle
  await handle.close()
  return null
}

/** Regular files at or below a path; nothing when it is not there now. */
async function* filesBelow(
  root: string,
  pool: WorkerPool
): AsyncGenerator<{ path: string; stats: FileStats }> {
  const stats = await lstat(root, { bigint: true }).catch(() => null)
  if (stats === null) return
  if (stats.isFile()) yield { path: root, stats }
  if (!stats.isDirectory()) return
  for await (const { absolute, stats: each } of walk(root, () => {}, pool)) {
    const path = absolute.toString()
    // Names that are not UTF-8 could not be opened again by what is kept of them.
    if (each.isFile() && Buffer.from(path).equals(absolute)) yield { path, stats: each }
  }
}

function keyOf(path: string): Buffer {
  return createHash('sha256').update(path).digest().subarray(0, CORE_PREFIX)
}

function stampOf({ size, mtimeNs, ctimeNs, ino }: FileStats): string {
  return `${size} ${mtimeNs} ${ctimeNs} ${ino}`
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
