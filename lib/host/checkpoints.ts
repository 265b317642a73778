import { setTimeout } from 'node:timers/promises'
import type { CheckpointPolicy } from '../choices.js'
import { ParcelError } from '../errors.js'
import type { Events } from './events.js'
import type { SuspendOptions, SuspendResult } from '../info.js'
import type { ParcelMachine } from './parcel-machine.js'
import type { Ahead } from '../parcel/commit/author.js'
import type { Parcel } from '../parcel/parcel.js'
import type { ParcelList } from './parcel-list.js'
import { driverNamed } from '../vmm/drivers.js'

/** How often it is looked whether a checkpoint is due, ms. */
const LOOK = 1_000
/** The shortest and the longest time between two, and of doing little, ms. */
const [LEAST, MOST] = [5_000, 7 * 86_400_000]
/** Who uses less of one processor than this does little. */
const LITTLE = 0.25
/** So much processor time, s, is worth a version, however slowly it was used. */
const WORTH = 2
/** For each ms of work on a guest that runs it has so many for itself. */
const REST = 3

interface Parts {
  parcels: ParcelList
  events: Events
  machine: (parcel: Parcel) => ParcelMachine
  checkpoint: (
    parcel: Parcel,
    options: SuspendOptions & { ahead: Ahead }
  ) => PromiseLike<SuspendResult>
}

/** A machine that runs, as it was seen last; times by `performance.now`. */
interface Seen {
  /** When the last checkpoint was begun, or the machine was found running. */
  began: number
  /** When it was looked at, and the processor time it had had by then, s. */
  looked: number
  cpuTime: number | null
  /** When it did more than little. */
  busy: number
  /** The processor time that it had had at the first look after the last checkpoint; null: none was taken since. */
  base: number | null
  /** It has done something since the last checkpoint. */
  isOwing: boolean
}

/** Makes versions of machines while they run, again and again, so that a suspend has little left to store. */
export class Checkpoints {
  readonly #parts: Parts
  readonly #seen = new Map<Parcel, Seen>()
  readonly #end = new AbortController()
  /** Those that are being made. */
  readonly #making = new Map<Parcel, Promise<void>>()
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
    this.#end.abort()
    await this.#looking
    await Promise.all(this.#making.values())
  }

  /** Whether a machine runs of which one is to be made. */
  get isAwaited(): boolean {
    return this.#seen.size > 0
  }

  /**
   * Says when they are made of a parcel's machine; what is not given stays. Throws USAGE for what has no
   * machine, and for a time that is too short or too long.
   */
  async set(
    name: string,
    { every, idle }: { every?: number | null | undefined; idle?: number | null | undefined }
  ): Promise<CheckpointPolicy> {
    const parcel = this.#parts.parcels.named(name)
    for (const time of [every, idle]) {
      if (typeof time === 'number' && (time < LEAST || time > MOST)) {
        throw new ParcelError('USAGE', 'a time from 5 s to 7 days')
      }
    }
    if (driverNamed(parcel.driver).statePaths.length === 0) {
      throw new ParcelError(
        'USAGE',
        `"${name}" is a folder: only of machines that run checkpoints are made`
      )
    }
    const before = parcel.settings.checkpoints
    const policy = {
      every: every === undefined ? before.every : every,
      idle: idle === undefined ? before.idle : idle
    }
    await parcel.settings.setCheckpoints(policy)
    return policy
  }

  #look(): void {
    this.#looking ??= this.#lookAll().finally(() => (this.#looking = null))
  }

  async #lookAll(): Promise<void> {
    for (const parcel of this.#parts.parcels.all) {
      const { every, idle } = parcel.settings.checkpoints
      const isWanted = every !== null || idle !== null
      const status = isWanted ? await this.#status(parcel) : null
      if (status === null) {
        this.#seen.delete(parcel)
        continue
      }
      const now = performance.now()
      const seen = this.#see(parcel, status.cpuTime, now)
      const isDue = every !== null && now - seen.began >= every
      const isIdle = idle !== null && seen.isOwing && now - seen.busy >= idle
      if ((!isDue && !isIdle) || this.#making.has(parcel)) continue
      seen.began = now
      seen.busy = now
      seen.isOwing = false
      seen.base = null
      // Others' are not held up by one that takes long.
      const made = this.#checkpoint(parcel, seen).finally(() => this.#making.delete(parcel))
      this.#making.set(parcel, made)
    }
  }

  #status(parcel: Parcel): Promise<{ cpuTime: number | null; started: number } | null> {
    return this.#parts
      .machine(parcel)
      .process.status()
      .catch(() => null)
  }

  /** How much it did since it was looked at last. */
  #see(parcel: Parcel, cpuTime: number | null, now: number): Seen {
    const seen = this.#seen.get(parcel)
    if (seen === undefined) {
      const first = { began: now, looked: now, cpuTime, busy: now, base: cpuTime, isOwing: true }
      this.#seen.set(parcel, first)
      return first
    }
    const time = (now - seen.looked) / 1_000
    const used = cpuTime === null || seen.cpuTime === null ? null : cpuTime - seen.cpuTime
    // Where it cannot be told what it does, it may have done something.
    if (used === null) seen.isOwing = true
    else if (used > LITTLE * time) {
      seen.busy = now
      seen.isOwing = true
    }
    // What the checkpoint itself takes is not counted.
    if (!this.#making.has(parcel)) seen.base ??= cpuTime
    if (cpuTime !== null && seen.base !== null && cpuTime - seen.base >= WORTH) seen.isOwing = true
    seen.looked = now
    seen.cpuTime = cpuTime
    return seen
  }

  async #checkpoint(parcel: Parcel, seen: Seen): Promise<void> {
    const { name } = parcel
    const { signal } = this.#end
    try {
      const options: SuspendOptions = { offline: true }
      const started = (await this.#status(parcel))?.started
      // What the guest should not feel: others that want something of the parcel come in between, too.
      const rest = async (worked: number): Promise<void> => {
        await setTimeout(REST * worked, undefined, { signal })
        const now = await this.#status(parcel)
        if (now?.started !== started) throw new ParcelError('NOT_RUNNING', 'it ended')
      }
      const work = { report: () => {}, note: () => {}, signal }
      const ahead = await this.#parts.machine(parcel).storeAhead(options, { rest, work })
      await this.#parts.checkpoint(parcel, { ...options, ahead })
    } catch (error) {
      const { code, message } = ParcelError.from(error)
      // It has ended since.
      if (code === 'NOT_RUNNING' || code === 'UNKNOWN_PARCEL' || signal.aborted) return
      seen.isOwing = true
      const text = `a checkpoint failed: ${message}`
      parcel.problem('', text)
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
