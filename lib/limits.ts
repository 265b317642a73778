import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { z } from 'zod'
import { ParcelError } from './errors.js'
import { writeFileAtomic } from './keys/at-rest.js'
import { hasCode } from './paths.js'
import { RateLimit } from './log/rate-limit.js'
import type { Parcel } from './parcel/parcel.js'
import type { ParcelList } from './parcel-list.js'

const FILE = 'limits'
const DAY = 1_440
/** How often it is looked which rule is that of the hour, ms. */
const EVERY = 20_000
const MOST_RULES = 64

/** While the favoured host gets blocks, others get one byte for so many of its. */
const SHARE = 8
/** It gets none any more when it got none for so long, ms: a block takes its time on a slow line. */
const QUIET = 2_000
/** How often others look whether it is their turn, ms. */
const LOOK = 25
/** What others may get at once when it was their turn for long, bytes. */
const MOST_CREDIT = 1_048_576

/** How much may go over the network. null: as much as there is. */
export interface LimitRule {
  /** Minutes of the day by this machine's clock, from the first to before the second; null: at all other times. */
  between: { from: number; to: number } | null
  /** Bytes a second, to all hosts together and from them; and to each one of them. */
  up: number | null
  down: number | null
  peerUp: number | null
}

export interface LimitsInfo {
  rules: LimitRule[]
  /** Only records come, and what is asked for now: the link costs, or is weak. */
  isMetered: boolean
  /** Names of parcels of which nothing else comes; null: of all. */
  paused: string[] | null
}

const rate = z.number().int().min(1).nullable()
const minutes = z.number().int().min(0).max(DAY)
export const limitRule = z.strictObject({
  between: z.strictObject({ from: minutes, to: minutes }).nullable(),
  up: rate,
  down: rate,
  peerUp: rate
})
const schema = z.strictObject({
  rules: z.array(limitRule).max(MOST_RULES),
  isMetered: z.boolean(),
  isPaused: z.boolean(),
  /** Ids in hex. */
  paused: z.array(z.string()).max(10_000)
})
type State = z.infer<typeof schema>

const NOTHING: State = { rules: [], isMetered: false, isPaused: false, paused: [] }

/** How fast blocks go in and out of this host, and of which parcels none come that nobody waits for. */
export class Limits {
  readonly up = new RateLimit()
  readonly down = new RateLimit()
  readonly #peers = new Map<string, RateLimit>()
  readonly #path: string
  readonly #parcels: ParcelList
  readonly #now: () => Date
  readonly #state: State
  #timer: NodeJS.Timeout | undefined
  /** A host, in hex, that blocks go to before all others, as long as it is to be so. */
  #favoured: { host: string; isStill: () => boolean } | null = null
  /** When it got one, by `performance.now`; what others may get meanwhile, bytes. */
  #sentToFavoured = -Infinity
  #credit = 0
  #others: Promise<void> = Promise.resolve()
  #saving: Promise<void> = Promise.resolve()
  /** Hosts that are folders here, in hex: nothing of what goes to them goes over the network. */
  isHere: (host: string) => boolean = () => false
  /** Hosts that are on a network that this one is in, in hex. */
  isNear: (host: string) => boolean = () => false

  private constructor(path: string, parcels: ParcelList, now: () => Date, state: State) {
    this.#path = path
    this.#parcels = parcels
    this.#now = now
    this.#state = state
    this.#apply()
  }

  /**
   * Those of before. Throws INTEGRITY: what cannot be read must not be taken for no limit at all.
   * @internal
   */
  static async open(
    home: string,
    parcels: ParcelList,
    now: () => Date = () => new Date()
  ): Promise<Limits> {
    const path = join(home, FILE)
    try {
      const text = await readFile(path, 'utf8').catch((error: unknown) => {
        if (!hasCode(error, 'ENOENT')) throw error
        return JSON.stringify(NOTHING)
      })
      return new Limits(path, parcels, now, schema.parse(JSON.parse(text)))
    } catch (error) {
      throw new ParcelError(
        'INTEGRITY',
        `${path} cannot be read: delete it, and set limits anew with 'hyperparcel limits'`,
        error
      )
    }
  }

  start(): void {
    this.#timer = setInterval(() => this.#apply(), EVERY).unref()
  }

  close(): void {
    clearInterval(this.#timer)
    // Whoever waits goes on, and finds that all is closed.
    for (const limit of [this.up, this.down, ...this.#peers.values()]) limit.rate = Infinity
  }

  get info(): LimitsInfo {
    const { rules, isMetered, isPaused, paused } = this.#state
    const names = this.#parcels.all
      .filter(({ id }) => paused.includes(id.toString('hex')))
      .map(({ name }) => name)
    return { rules: structuredClone(rules), isMetered, paused: isPaused ? null : names }
  }

  /** Limits at a time of the day, or at all others; null for one that is to be none. Throws USAGE. */
  async set(rule: LimitRule): Promise<void> {
    const parsed = limitRule.parse(rule)
    const isSame = ({ between }: LimitRule): boolean =>
      JSON.stringify(between) === JSON.stringify(parsed.between)
    const isLimit = [parsed.up, parsed.down, parsed.peerUp].some((each) => each !== null)
    await this.#save((state) => {
      const rules = state.rules.filter((each) => !isSame(each))
      if (isLimit) rules.push(parsed)
      if (rules.length <= MOST_RULES) return { rules }
      throw new ParcelError('USAGE', `at most ${MOST_RULES} times of the day can have limits`)
    })
  }

  async clear(): Promise<void> {
    await this.#save(() => ({ rules: [] }))
  }

  async setMetered(isMetered: boolean): Promise<void> {
    await this.#save(() => ({ isMetered }))
  }

  /**
   * Lets nothing of a parcel come that nobody waits for, or of any; or lets it come again.
   * @internal
   */
  async setPaused(parcel: Parcel | null, isPaused: boolean): Promise<void> {
    if (parcel === null) {
      await this.#save(() => (isPaused ? { isPaused } : { isPaused, paused: [] }))
      return
    }
    const id = parcel.id.toString('hex')
    await this.#save((state) => {
      const others = state.paused.filter((each) => each !== id)
      return { paused: isPaused ? [...others, id] : others }
    })
  }

  /**
   * A parcel has come into the list.
   * @internal
   */
  heed(parcel: Parcel): void {
    const { isMetered, isPaused, paused } = this.#state
    parcel.holdBack(isMetered || isPaused || paused.includes(parcel.id.toString('hex')))
  }

  /** Runs what sends a block to a host, in hex, when that may go. */
  sending(host: string, send: () => Promise<void>): Promise<void> {
    if (this.isHere(host)) return send()
    const inTurn = (): Promise<void> => this.#peer(host).run(() => this.up.run(send))
    if (!this.#isFavouring(host)) return inTurn()
    const turn = this.#others.then(async () => {
      while (this.#isFavouring(host) && this.#credit <= 0) await setTimeout(LOOK)
      await inTurn()
    })
    this.#others = turn.catch(() => {})
    return turn
  }

  /**
   * Has blocks go to a host, in hex, before all others as long as `isStill` says so. The last one that was
   * favoured is.
   * @internal
   */
  favour(host: string, isStill: () => boolean): void {
    this.#favoured = { host, isStill }
    this.#credit = 0
  }

  /** Whether another host than this one gets blocks now, and is to get them first. */
  #isFavouring(host: string): boolean {
    const favoured = this.#favoured
    if (favoured === null || favoured.host === host) return false
    if (performance.now() - this.#sentToFavoured > QUIET) return false
    // What goes over the network that both are in takes nothing away from who is not.
    return this.isNear(favoured.host) || !this.isNear(host)
  }

  /** So much went to and came from a host, in hex. */
  spent(host: string, { received, sent }: { received: number; sent: number }): void {
    if (this.isHere(host)) return
    this.down.spend(received)
    this.up.spend(sent)
    if (sent > 0) this.#account(host, sent)
    this.#peer(host).spend(sent)
  }

  #account(host: string, sent: number): void {
    if (this.#favoured === null) return
    if (this.#favoured.host !== host) {
      this.#credit -= sent
      return
    }
    this.#sentToFavoured = performance.now()
    this.#credit = Math.min(this.#credit + sent / SHARE, MOST_CREDIT)
    if (!this.#favoured.isStill()) this.#favoured = null
  }

  #peer(host: string): RateLimit {
    const known = this.#peers.get(host)
    if (known !== undefined) return known
    const made = new RateLimit()
    made.rate = this.#rule?.peerUp ?? Infinity
    this.#peers.set(host, made)
    return made
  }

  /** The one of the hour; null: there is none. */
  get #rule(): LimitRule | null {
    const now = this.#now()
    const minute = now.getHours() * 60 + now.getMinutes()
    const isNow = ({ from, to }: { from: number; to: number }): boolean =>
      from <= to ? minute >= from && minute < to : minute >= from || minute < to
    const { rules } = this.#state
    return (
      rules.find(({ between }) => between !== null && isNow(between)) ??
      rules.find(({ between }) => between === null) ??
      null
    )
  }

  #apply(): void {
    const rule = this.#rule
    const wanted = [
      [this.up, rule?.up],
      [this.down, rule?.down],
      ...[...this.#peers.values()].map((each) => [each, rule?.peerUp] as const)
    ] as const
    for (const [limit, rate] of wanted) {
      const now = rate ?? Infinity
      if (limit.rate !== now) limit.rate = now
    }
    for (const parcel of this.#parcels.all) this.heed(parcel)
  }

  /** One change after the other, each in force once it will be so after a restart too. */
  #save(change: (state: State) => Partial<State>): Promise<void> {
    const run = this.#saving.then(async () => {
      const next = { ...this.#state, ...change(this.#state) }
      const isNothing = JSON.stringify(next) === JSON.stringify(NOTHING)
      if (isNothing) await rm(this.#path, { force: true })
      else await writeFileAtomic(this.#path, Buffer.from(`${JSON.stringify(next)}\n`))
      Object.assign(this.#state, next)
      this.#apply()
    })
    this.#saving = run.catch(() => {})
    return run
  }
}
