import { join } from 'node:path'
import { z } from 'zod'
import { ParcelError } from '../errors.js'
import { readSealed, writeSealed } from '../keys/at-rest.js'

/** What happened with a parcel of this host. */
export const EVENTS = [
  'version',
  'whole',
  'conflict',
  'rollback',
  'connected',
  'disconnected',
  'running',
  'stopped',
  'stalled',
  'goes-on',
  'suspend-asked',
  'suspend-refused',
  'suspended',
  'checkpoint-failed'
] as const
export type EventType = (typeof EVENTS)[number]

export interface HostEvent {
  /** Counts up. */
  number: number
  /** Milliseconds since 1970, by this host's clock. */
  at: number
  type: EventType
  parcel: string
  /** What another host calls itself that it is about; '' for none. */
  host: string
  /** The version that it is about, in hex. */
  version: string | null
  /** For people. */
  text: string
}

/** More are not kept. */
const MOST = 1_000
const FILE = 'events'
/** So long a new one may be lost with a kill, ms. */
const SOON = 5_000

const schema = z.array(
  z.strictObject({
    number: z.number().int().min(1),
    at: z.number(),
    type: z.enum(EVENTS),
    parcel: z.string(),
    host: z.string(),
    version: z.string().nullable(),
    text: z.string()
  })
)

/** The last things that happened to the parcels of a host, also in runs before. */
export class Events {
  readonly #path: string
  readonly #key: Buffer
  readonly #clock: () => number
  readonly #listeners = new Set<() => void>()
  readonly #events: HostEvent[]
  #isSaved = true
  #isSaveDue = false
  #saving: Promise<void> = Promise.resolve()

  private constructor(path: string, key: Buffer, clock: () => number, events: HostEvent[]) {
    this.#path = path
    this.#key = key
    this.#clock = clock
    this.#events = events
  }

  /** Those of before, if they can be read: nothing depends on them. */
  static async open(home: string, key: Buffer, clock: () => number): Promise<Events> {
    const path = join(home, FILE)
    const before = await readSealed(path, key)
      .then((bytes) => schema.parse(JSON.parse(bytes.toString())))
      .catch((): HostEvent[] => [])
    return new Events(path, key, clock, before)
  }

  /** Those after one, the oldest first. */
  since(number: number): readonly HostEvent[] {
    return this.#events.filter((event) => event.number > number)
  }

  add(event: Omit<HostEvent, 'number' | 'at'>): void {
    const number = (this.#events.at(-1)?.number ?? 0) + 1
    const added = { number, at: this.#clock(), ...event }
    this.#events.push(added)
    this.#isSaved = false
    // Numbers are to go on after a kill: soon, but not for each of many.
    if (!this.#isSaveDue) setTimeout(() => void this.save(), SOON).unref()
    this.#isSaveDue = true
    if (this.#events.length > MOST) this.#events.shift()
    for (const listener of this.#listeners) listener()
  }

  /** Settles when there is one after a number. Throws when the signal aborts before. */
  async next(number: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if ((this.#events.at(-1)?.number ?? 0) > number) return
    const added = new Promise<void>((resolve, reject) => {
      const end = (settle: () => void): void => {
        this.#listeners.delete(onAdd)
        signal.removeEventListener('abort', onAbort)
        settle()
      }
      const onAdd = (): void => end(resolve)
      const onAbort = (): void => end(() => reject(ParcelError.from(signal.reason)))
      this.#listeners.add(onAdd)
      signal.addEventListener('abort', onAbort)
    })
    await added
  }

  /** Makes durable what there is, as far as it can be: nothing depends on it. */
  save(): Promise<void> {
    this.#saving = this.#saving.then(async () => {
      this.#isSaveDue = false
      if (this.#isSaved) return
      this.#isSaved = true
      const bytes = Buffer.from(JSON.stringify(this.#events))
      await writeSealed(this.#path, this.#key, bytes).catch(() => {
        this.#isSaved = false
      })
    })
    return this.#saving
  }
}
