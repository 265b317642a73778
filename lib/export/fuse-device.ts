import { closeSync, read, writevSync } from 'node:fs'
import { HEADER_BYTES, MAX_WRITE } from './fuse-protocol.js'
import type { FuseFileSystem } from './fuse.js'

/** Requests are read on so many threads: the kernel has the next one ready while one is looked at. */
const READERS = 2
const SMALL_FRAME = 8_192
const FRAME_BYTES = MAX_WRITE + HEADER_BYTES + 4_096

/** Carries frames between a mounted /dev/fuse and its file system, until it is unmounted. */
export class FuseDevice {
  readonly #fd: number
  readonly #fileSystem: FuseFileSystem
  readonly #buffers: Buffer[] = []
  readonly #readers: Promise<unknown>
  #isClosed = false

  /** `fd`: opened for reading and writing, and mounted already. Owned from here on. */
  constructor(fd: number, fileSystem: FuseFileSystem) {
    this.#fd = fd
    this.#fileSystem = fileSystem
    this.#readers = Promise.all(Array.from({ length: READERS }, () => this.#serve()))
  }

  /** Settles when it was unmounted, or closed. */
  async ended(): Promise<void> {
    await this.#readers
    this.close()
  }

  /** What was mounted answers nothing any more. A reader that waits ends when it is unmounted. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    closeSync(this.#fd)
  }

  async #serve(): Promise<void> {
    while (!this.#isClosed) {
      const buffer = this.#buffers.pop() ?? Buffer.allocUnsafeSlow(FRAME_BYTES)
      const count = await this.#read(buffer)
      if (count === null) return
      // Only what is written needs the buffer until it is answered, which may take long.
      const isSmall = count <= SMALL_FRAME
      const frame = isSmall ? Buffer.from(buffer.subarray(0, count)) : buffer.subarray(0, count)
      if (isSmall) this.#buffers.push(buffer)
      const onDone = (): void => {
        if (!isSmall) this.#buffers.push(buffer)
      }
      void this.#fileSystem.answer(frame, onDone).then((answer) => {
        if (answer !== null) this.#reply(answer)
      })
    }
  }

  /** null: unmounted. */
  async #read(buffer: Buffer): Promise<number | null> {
    for (;;) {
      const result = await new Promise<number | NodeJS.ErrnoException>((resolve) => {
        read(this.#fd, buffer, 0, buffer.byteLength, null, (error, count) =>
          resolve(error ?? count)
        )
      })
      if (typeof result === 'number') return result
      // A request that was withdrawn before it was read, or a signal.
      if (result.code === 'ENOENT' || result.code === 'EINTR' || result.code === 'EAGAIN') continue
      return null
    }
  }

  /** The kernel takes an answer only whole, in one call. */
  #reply(answer: Buffer[]): void {
    if (this.#isClosed) return
    try {
      writevSync(this.#fd, answer)
    } catch {
      // ENOENT: whoever asked was killed meanwhile. Others: unmounted, which the reader notices.
    }
  }
}
