import { ParcelError } from './errors.js'
import type { Events } from './events.js'
import type { SuspendResult } from './info.js'
import type { Parcel } from './parcel/parcel.js'
import type { ParcelList } from './parcel-list.js'
import { driverNamed } from './vmm/drivers.js'

/** How often it is looked whether a checkpoint is due, ms. */
const LOOK = 1_000
/** The shortest and the longest time between two, ms. */
const [LEAST, MOST] = [5_000, 7 * 86_400_000]

interface Parts {
  parcels: ParcelList
  events: Events
  isRunning: (parcel: Parcel) => Promise<boolean>
  checkpoint: (name: string) => PromiseLike<SuspendResult>
}

/** Makes versions of machines while they run, again and again, so that a suspend has little left to store. */
export class Checkpoints {
  readonly #parts: Parts
  /** When the last one was begun, or the machine was found running, by `performance.now`. */
  readonly #began = new Map<Parcel, number>()
  #timer: NodeJS.Timeout | undefined
  #looking: Promise<void> | null = null

  /** @internal */
  constructor(parts: Parts) {
    this.#parts = parts
  }

  start(): void {
    this.#timer = setInterval(() => this.#look(), LOOK).unref()
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.#looking
  }

  /** Whether a machine runs of which one is to be made. */
  get isAwaited(): boolean {
    return this.#began.size > 0
  }

  /** ms between checkpoints of a parcel that runs here; null: none are made by themselves. */
  every(name: string): number | null {
    return this.#parts.parcels.named(name).checkpointEvery
  }

  /** Throws USAGE for what has no machine, and for a time that is too short or too long. */
  async setEvery(name: string, every: number | null): Promise<void> {
    const parcel = this.#parts.parcels.named(name)
    if (every !== null && (every < LEAST || every > MOST)) {
      throw new ParcelError('USAGE', 'a time from 5 s to 7 days')
    }
    if (driverNamed(parcel.driver).statePaths.length === 0) {
      throw new ParcelError(
        'USAGE',
        `"${name}" is a folder: only of machines that run checkpoints are made`
      )
    }
    await parcel.setCheckpointEvery(every)
  }

  #look(): void {
    this.#looking ??= this.#lookAll().finally(() => (this.#looking = null))
  }

  async #lookAll(): Promise<void> {
    for (const parcel of this.#parts.parcels.all) {
      const every = parcel.checkpointEvery
      const isRunning = every !== null && (await this.#parts.isRunning(parcel).catch(() => false))
      if (!isRunning) {
        this.#began.delete(parcel)
        continue
      }
      const now = performance.now()
      const began = this.#began.get(parcel)
      if (began === undefined) this.#began.set(parcel, now)
      else if (now - began >= every) {
        this.#began.set(parcel, now)
        await this.#checkpoint(parcel)
      }
    }
  }

  async #checkpoint(parcel: Parcel): Promise<void> {
    const { name } = parcel
    try {
      await this.#parts.checkpoint(name)
    } catch (error) {
      const { code, message } = ParcelError.from(error)
      // It has ended since.
      if (code === 'NOT_RUNNING' || code === 'UNKNOWN_PARCEL') return
      parcel.problem('', `a checkpoint failed: ${message}`)
      const text = `a checkpoint failed: ${message}`
      this.#parts.events.add({
        type: 'checkpoint-failed',
        parcel: name,
        host: '',
        version: null,
        text
      })
    }
  }
}
