import { EventEmitter, once } from 'node:events'
import { open } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DiskBuffer } from 'v86/build/libv86.mjs'
import type { Volume } from '../image/volume.js'

const RETRY_MS = 1000

/** What a disk is kept in: a file of the folder, or an image that is served. */
type Backing = Pick<Volume, 'size' | 'read' | 'write' | 'flush'> & { close?: () => Promise<void> }

/**
 * A raw disk image as v86 wants one. Requests go to the file one after the other, so a `get` sees
 * every `set` before it. One that fails is tried again each second, and the guest waits for it:
 * v86 cannot be told of a failure, and a write that vanished would be a corrupt disk. Meanwhile
 * `flush` rejects with the failure; 'trouble' is emitted once when it begins. 'crash' is v86
 * failing in what it does with the answer.
 */
export class Disk
  extends EventEmitter<{ trouble: [unknown]; crash: [unknown]; change: [] }>
  implements DiskBuffer
{
  readonly byteLength: number
  onload = () => {}
  readonly #backing: Backing
  #last = Promise.resolve()
  #pending = 0
  #trouble: unknown = null
  #closed = false
  #first: Uint8Array | undefined

  constructor(backing: Backing) {
    super()
    this.#backing = backing
    this.byteLength = backing.size
  }

  static async open(file: string): Promise<Disk> {
    const handle = await open(file, 'r+')
    return new Disk(new FileBacking(handle, (await handle.stat()).size))
  }

  load(): void {
    this.onload()
  }

  get(offset: number, length: number, done: (bytes: Uint8Array) => void): void {
    let bytes = new Uint8Array(0)
    const read = async (): Promise<void> => {
      const found = await this.#backing.read(offset, length)
      if (found.byteLength !== length) throw new Error('the disk has become shorter')
      // A copy of its own: v86 keeps it, and an image gives views.
      bytes = Uint8Array.from(found)
    }
    this.#queue(read, () => done(bytes))
  }

  set(offset: number, bytes: Uint8Array, done: () => void): void {
    const copy = Buffer.from(bytes)
    this.#queue(() => this.#backing.write(offset, copy), done)
  }

  /** v86 asks for the first sector before it starts, and looks for the disk's geometry there. */
  get_and_cache(offset: number, length: number, done: (bytes: Uint8Array) => void): void {
    this.get(offset, length, (bytes) => {
      this.#first = bytes
      done(bytes)
    })
  }

  get_from_cache(): Uint8Array | undefined {
    return this.#first
  }

  get_state(): unknown[] {
    return []
  }

  set_state(): void {}

  /** Waits until no request is under way and the file is on stable storage. */
  async flush(): Promise<void> {
    while (this.#pending > 0) {
      if (this.#trouble !== null) throw this.#trouble
      await once(this, 'change')
    }
    await this.#backing.flush()
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#backing.close?.()
  }

  #queue(transfer: () => Promise<void>, done: () => void): void {
    this.#pending++
    this.#last = this.#last
      .then(() => this.#insist(transfer))
      .then(() => {
        this.#pending--
        if (!this.#closed) done()
        this.emit('change')
      })
      .catch((error) => void this.emit('crash', error))
  }

  async #insist(transfer: () => Promise<void>): Promise<void> {
    while (!this.#closed) {
      try {
        await transfer()
        this.#trouble = null
        return
      } catch (error) {
        if (this.#closed) return
        if (this.#trouble === null) this.emit('trouble', error)
        this.#trouble = error
        this.emit('change')
        await sleep(RETRY_MS, undefined, { ref: false })
      }
    }
  }
}

class FileBacking implements Backing {
  readonly size: number
  readonly #file: FileHandle

  constructor(file: FileHandle, size: number) {
    this.#file = file
    this.size = size
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafe(length)
    await readAll(this.#file, bytes, offset)
    return bytes
  }

  write(offset: number, bytes: Buffer): Promise<void> {
    return writeAll(this.#file, bytes, offset)
  }

  flush(): Promise<void> {
    return this.#file.sync()
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}

/** Writes all of `bytes` at `offset`, in bytes. Throws the system's error. */
export async function writeAll(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    at += (await file.write(bytes, at, bytes.length - at, offset + at)).bytesWritten
  }
}

/** Fills all of `bytes` from `offset`, in bytes. Throws the system's error, or that the file ends before. */
export async function readAll(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    const { bytesRead } = await file.read(bytes, at, bytes.length - at, offset + at)
    if (bytesRead === 0) throw new Error('a file of the machine has become shorter')
    at += bytesRead
  }
}
