import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { ParcelError } from '../errors.js'
import { MAX_BLOCK } from '../format/limits.js'
import type { ScrubInfo } from '../info.js'
import { writeFileAtomic } from '../keys/at-rest.js'
import type { ParcelList } from './parcel-list.js'

const FILE = 'scrub'
const DAY = 86_400_000
/** A day's share, when nobody has said another: bytes. */
const QUOTA = 4 * 2 ** 30
/** How often it goes on, ms. */
const EVERY = 60_000
/** Of a day's share, at most so much at a time: what a daemon that is seldom there can catch up with. */
const AT_A_TIME = 1 / 60
/** Blocks that are read before it looks how much that was. */
const STEP = 4
/** How long others may take to send what is damaged, ms. */
const PATIENCE = 30_000

const schema = z.object({
  format: z.literal(1),
  quota: z.number().int().min(0),
  /** Bytes that may be read, as of `at`, ms since 1970. A clock that is wrong costs a day's share at most. */
  left: z.number(),
  at: z.number(),
  /** What comes next: a core in hex, and its block; '': the first. */
  core: z.string(),
  block: z.number().int().min(0),
  /** When all was read last, ms since 1970; null: never. */
  done: z.number().nullable(),
  /** Blocks that were damaged so far. */
  damaged: z.number().int().min(0)
})
type State = z.infer<typeof schema>

/**
 * Reads what is here, a little at a time and again from the beginning, so that what rots is found
 * while others have it still.
 */
export class Scrub {
  readonly #path: string
  readonly #parcels: ParcelList
  readonly #clock: () => number
  #state: State
  #timer: NodeJS.Timeout | undefined
  #running: Promise<void> | null = null
  readonly #abort = new AbortController()

  private constructor(path: string, parcels: ParcelList, clock: () => number, state: State) {
    this.#path = path
    this.#parcels = parcels
    this.#clock = clock
    this.#state = state
  }

  /** @internal */
  static async open(home: string, parcels: ParcelList, clock: () => number): Promise<Scrub> {
    const path = join(home, FILE)
    const fresh: State = {
      format: 1,
      quota: QUOTA,
      left: QUOTA,
      at: clock(),
      core: '',
      block: 0,
      done: null,
      damaged: 0
    }
    const text = await readFile(path, 'utf8').catch(() => '')
    return new Scrub(path, parcels, clock, parse(text) ?? fresh)
  }

  /** Goes on by itself until it is closed. */
  start(every = EVERY): void {
    this.#timer = setInterval(() => void this.go().catch(() => {}), every).unref()
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    this.#abort.abort()
    await this.#running?.catch(() => {})
  }

  get info(): ScrubInfo {
    const { quota, done, damaged } = this.#state
    return { quota, done, damaged }
  }

  /** Sets a day's share in bytes; 0: nothing is read. */
  async setQuota(bytes: number): Promise<void> {
    this.#state.quota = bytes
    this.#state.left = Math.min(this.#state.left, bytes)
    await this.#save()
  }

  /** Reads as much as may be read now. */
  go(): Promise<void> {
    this.#running ??= this.#run().finally(() => (this.#running = null))
    return this.#running
  }

  async #run(): Promise<void> {
    const state = this.#state
    const now = this.#clock()
    const since = Math.min(Math.max(now - state.at, 0), DAY)
    state.left = Math.min(state.left + (state.quota * since) / DAY, state.quota)
    state.at = now
    let budget = Math.min(state.left, state.quota * AT_A_TIME)
    try {
      while (budget > 0 && !this.#abort.signal.aborted) {
        const bytes = await this.#step()
        if (bytes === null) break
        budget -= bytes
        state.left -= bytes
      }
    } finally {
      await this.#save()
    }
  }

  /** Reads the next blocks; null when all have been read. */
  async #step(): Promise<number | null> {
    const state = this.#state
    const cores = this.#parcels.all
      .flatMap((parcel) =>
        parcel.logs().map((log) => ({ parcel, log, core: log.key.toString('hex') }))
      )
      .toSorted((a, b) => (a.core < b.core ? -1 : 1))
    const next = cores.find(
      ({ core, log }) => core > state.core || (core === state.core && state.block < log.length)
    )
    if (next === undefined) {
      Object.assign(state, { core: '', block: 0, done: this.#clock() })
      return null
    }
    const from = next.core === state.core ? state.block : 0
    const { parcel, log, core } = next
    const work = { report: () => {}, note: () => {}, signal: this.#abort.signal }
    const ranges = [{ log, start: from, end: from + STEP }]
    // Whatever comes of it, the next look is at what follows.
    Object.assign(state, { core, block: from + STEP })
    const how = { ranges, isChosen: () => true, timeout: PATIENCE }
    const checked = await parcel.checking.check(how, null, work)
    const damaged = checked.repaired.length + checked.newlyLost.length
    state.damaged += damaged
    // One that is damaged has to be fetched too.
    return checked.bytes + damaged * MAX_BLOCK
  }

  async #save(): Promise<void> {
    await writeFileAtomic(this.#path, Buffer.from(`${JSON.stringify(this.#state)}\n`)).catch(
      (error: unknown) => this.#parcels.addProblem(ParcelError.from(error, 'the scrub'))
    )
  }
}

/** null for what is not a state: it begins anew. */
function parse(text: string): State | null {
  try {
    return schema.parse(JSON.parse(text))
  } catch {
    return null
  }
}
