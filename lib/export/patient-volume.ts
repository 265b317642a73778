import { setTimeout } from 'node:timers/promises'
import type { Stretch } from '../image/image.js'
import { ParcelError } from '../errors.js'
import type { Volume } from '../image/volume.js'

const RETRY = 1_000

/**
 * A volume for a running guest, which must never be told of an error that passes: an unreadable
 * page would kill its monitor, a lost write its file system. What fails is tried again each second
 * until it works, and the guest waits; `trouble` says why.
 */
export class PatientVolume implements Volume {
  readonly #volume: Volume
  readonly #abort = new AbortController()
  /** What is tried again now, and why it failed. */
  readonly #troubles = new Set<{ why: string }>()

  constructor(volume: Volume) {
    this.#volume = volume
  }

  /** Why something waits, in one line; null when nothing does. */
  get trouble(): string | null {
    const [first] = this.#troubles
    return first?.why ?? null
  }

  get size(): number {
    return this.#volume.size
  }

  read(offset: number, length: number): Promise<Buffer> {
    return this.#insist(() => this.#volume.read(offset, length))
  }

  write(offset: number, bytes: Buffer): Promise<void> {
    return this.#insist(() => this.#volume.write(offset, bytes))
  }

  zero(offset: number, length: number): Promise<void> {
    return this.#insist(() => this.#volume.zero(offset, length))
  }

  resize(size: number): Promise<void> {
    return this.#insist(() => this.#volume.resize(size))
  }

  flush(): Promise<void> {
    return this.#insist(() => this.#volume.flush())
  }

  stretches(offset: number, length: number): Promise<Stretch[]> {
    return this.#insist(() => this.#volume.stretches(offset, length))
  }

  /** Whoever waits is told of the error after all. */
  abandon(): void {
    this.#abort.abort()
  }

  async #insist<T>(work: () => Promise<T>): Promise<T> {
    const trouble = { why: '' }
    try {
      for (;;) {
        try {
          return await work()
        } catch (error) {
          if (error instanceof RangeError || this.#abort.signal.aborted) throw error
          trouble.why = ParcelError.from(error).message
          this.#troubles.add(trouble)
          await setTimeout(RETRY, undefined, { signal: this.#abort.signal }).catch(() => {})
          if (this.#abort.signal.aborted) throw error
        }
      }
    } finally {
      this.#troubles.delete(trouble)
    }
  }
}
