import {
  closeSync,
  constants,
  fdatasync,
  fstatSync,
  ftruncateSync,
  openSync,
  writeSync
} from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { nullIfAbsent, ParcelError } from '../errors.js'
import type { FolderChange } from './folder-change.js'
import type { FolderTree } from './folder-tree.js'

/*
 * What was changed in the folders of a version that is open for writing, beside the overlays of its
 * files: a line of JSON for the format, then one for each change, appended before the change is
 * acknowledged. Names and targets are bytes, each written as the character of that number. A file
 * that a change made has its contents in an overlay of its own.
 *
 * After a crash of the computer the end may be missing or torn: reading ends at the first line that
 * is none.
 */
export const FOLDER_CHANGES = 'folders.jsonl'
const FLAGS = constants.O_RDWR | constants.O_APPEND | constants.O_NOFOLLOW
const sync = promisify(fdatasync)
const FORMAT = '{"hyperparcel":"folder changes","format":1}'

/** The changes of a folder of overlays, on disk. */
export class FolderChanges {
  readonly #path: string
  readonly #tree: FolderTree
  #fd: number | null = null
  #isSynced = true

  private constructor(path: string, tree: FolderTree) {
    this.#path = path
    this.#tree = tree
  }

  /**
   * Makes the changes that a folder of overlays has to a version's tree. No file is made before the
   * first change. Throws INTEGRITY for changes of another tree.
   */
  static async open(overlays: string, tree: FolderTree): Promise<FolderChanges> {
    const changes = new FolderChanges(join(overlays, FOLDER_CHANGES), tree)
    const end = await replayChanges(overlays, tree)
    if (end === null) return changes
    changes.#fd = openSync(changes.#path, FLAGS, 0o600)
    ftruncateSync(changes.#fd, end)
    return changes
  }

  /**
   * Makes one change, at once; it survives the end of this process. Throws RangeError for one that
   * cannot be made, ENOSPC.
   */
  make(change: FolderChange): void {
    this.#fd ??= openSync(this.#path, FLAGS | constants.O_CREAT, 0o600)
    const { size } = fstatSync(this.#fd)
    const head = size === 0 ? `${FORMAT}\n` : ''
    this.#append(`${head}${JSON.stringify(change, plain)}\n`, size)
    try {
      this.#tree.apply(change)
    } catch (error) {
      ftruncateSync(this.#fd, size)
      throw error
    }
  }

  /** Whether the folders are the version's. */
  get isEmpty(): boolean {
    return this.#fd === null || fstatSync(this.#fd).size <= FORMAT.length + 1
  }

  /** Puts them on stable storage. */
  async flush(): Promise<void> {
    if (this.#isSynced || this.#fd === null) return
    this.#isSynced = true
    try {
      await sync(this.#fd)
    } catch (error) {
      this.#isSynced = false
      throw error
    }
  }

  close(): void {
    if (this.#fd !== null) closeSync(this.#fd)
    this.#fd = null
  }

  #append(line: string, size: number): void {
    if (this.#fd === null) return
    this.#isSynced = false
    const bytes = Buffer.from(line)
    if (writeSync(this.#fd, bytes) === bytes.byteLength) return
    // What got onto a full disk is the beginning of a line, and the next must not follow it.
    ftruncateSync(this.#fd, size)
    throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' })
  }
}

/**
 * Makes the changes of a folder of overlays to a tree and leaves them as they are. Gives the bytes
 * of their file that count; null when there are none. Throws INTEGRITY for changes of another tree.
 */
export async function replayChanges(overlays: string, tree: FolderTree): Promise<number | null> {
  const path = join(overlays, FOLDER_CHANGES)
  const bytes = await readFile(path).catch(nullIfAbsent)
  if (bytes === null || bytes.byteLength === 0) return null
  // Few have any, and whoever waits for a machine would wait for a schema's code to be loaded.
  const { parseChange } = await import('./folder-change.js')
  let end = 0
  for (;;) {
    const next = bytes.indexOf(0x0a, end)
    if (next < 0) return end
    const line = bytes.toString('utf8', end, next)
    if (end === 0) {
      if (line !== FORMAT) throw foreign(path, 'it is not one, or a newer hyperparcel wrote it')
    } else {
      const change = parseChange(line)
      if (change === null) return end
      try {
        tree.apply(change)
      } catch (error) {
        throw foreign(path, error instanceof Error ? error.message : 'it is of another version')
      }
    }
    end = next + 1
  }
}

function foreign(path: string, why: string): ParcelError {
  return new ParcelError('INTEGRITY', `${path} cannot be used: ${why}`)
}

function plain(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value
}
