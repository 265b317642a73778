import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import picomatch from 'picomatch'
import { z } from 'zod'
import { ParcelError } from '../errors.js'
import { writeFileAtomic } from '../keys/at-rest.js'
import { RateLimit } from '../log/rate-limit.js'
import type { ParcelList } from '../host/parcel-list.js'
import type { Parcel } from '../parcel/parcel.js'
import { hasCode } from '../paths.js'
import { Favour } from './favour.js'
import { networkNames } from './networks.js'
import { isLimiting, limitRule, rate, ruleAt, type LimitRule } from './rule.js'
import { WeakLink } from './weak-link.js'

const FILE = 'limits'
/** How often it is looked which rule is that of the hour, and how the link is, ms. */
const EVERY = 5_000
const MOST_RULES = 64
/** Why only records come, and what is asked for now: somebody said so, the network's name, or how slow it is. */
export type Metered = 'by hand' | 'by its name' | 'by measure'

export interface LimitsInfo {
  rules: LimitRule[]
  /** Only records come, and what is asked for now: the link costs, or is weak. */
  isMetered: boolean
  metered: Metered | null
  /** Names of networks that cost, as patterns: of an interface, or of a wireless network. */
  meteredOn: string[]
  /** A link that brings less than so many bytes a second when more is wanted is weak; null: none is. */
  weakBelow: number | null
  /** Names of parcels of which nothing else comes; null: of all. */
  paused: string[] | null
  /** This host is to carry connections between hosts that reach it and not each other. */
  relays: boolean
}

export const meteredOn = z.array(z.string().min(1).max(256)).max(64)
const schema = z.strictObject({
  rules: z.array(limitRule).max(MOST_RULES),
  isMetered: z.boolean(),
  meteredOn: meteredOn.default([]),
  weakBelow: rate.default(null),
  relays: z.boolean().default(false),
  isPaused: z.boolean(),
  /** Ids in hex. */
  paused: z.array(z.string()).max(10_000)
})
type State = z.infer<typeof schema>

const NOTHING: State = {
  rules: [],
  isMetered: false,
  meteredOn: [],
  weakBelow: null,
  relays: false,
  isPaused: false,
  paused: []
}

function isOne(name: string, globs: readonly string[]): boolean {
  return picomatch([...globs], { dot: true, bash: true })(name)
}

/** How fast blocks go in and out of this host, and of which parcels none come that nobody waits for. */
export class Limits {
  readonly up = new RateLimit()
  readonly down = new RateLimit()
  readonly #peers = new Map<string, { up: RateLimit; down: RateLimit }>()
  readonly #path: string
  readonly #parcels: ParcelList
  readonly #now: () => Date
  readonly #state: State
  #timer: NodeJS.Timeout | undefined
  /** Whether the network that this host is in now costs by its name; null: that is not known yet. */
  #isNamed: boolean | null = null
  readonly #link = new WeakLink()
  readonly #favour = new Favour((host) => this.isNear(host))
  #isRelaying = false
  #isClosed = false
  #saving: Promise<void> = Promise.resolve()
  /** Hosts that are folders here, in hex: nothing of what goes to them goes over the network. */
  isHere: (host: string) => boolean = () => false
  /** Hosts that are on a network that this one is in, in hex. */
  isNear: (host: string) => boolean = () => false
  /** Called when this host is to relay from now on, or no more. */
  onRelaying: (isOn: boolean) => Promise<void> = async () => {}

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
    this.#timer = setInterval(() => this.#look(), EVERY).unref()
    this.#look()
  }

  close(): void {
    this.#isClosed = true
    clearInterval(this.#timer)
    // Whoever waits goes on, and finds that all is closed.
    const peers = [...this.#peers.values()].flatMap(({ up, down }) => [up, down])
    for (const limit of [this.up, this.down, ...peers]) limit.rate = Infinity
  }

  get info(): LimitsInfo {
    const { rules, meteredOn, weakBelow, isPaused, paused, relays } = this.#state
    const names = this.#parcels.all
      .filter(({ id }) => paused.includes(id.toString('hex')))
      .map(({ name }) => name)
    const metered = this.#metered()
    return {
      rules: structuredClone(rules),
      isMetered: metered !== null,
      metered,
      meteredOn: [...meteredOn],
      weakBelow,
      paused: isPaused ? null : names,
      relays
    }
  }

  /** Limits at a time of the day, or at all others; null for one that is to be none. Throws USAGE. */
  async set(rule: LimitRule): Promise<void> {
    const parsed = limitRule.parse(rule)
    const isSame = ({ between }: LimitRule): boolean =>
      JSON.stringify(between) === JSON.stringify(parsed.between)
    await this.#save((state) => {
      const rules = state.rules.filter((each) => !isSame(each))
      if (isLimiting(parsed)) rules.push(parsed)
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

  /** On networks of these names the link costs: patterns such as 'wwan*'. Throws USAGE. */
  async setMeteredOn(names: readonly string[]): Promise<void> {
    const parsed = meteredOn.safeParse(names)
    if (!parsed.success) throw new ParcelError('USAGE', 'at most 64 names of up to 256 characters')
    await this.#save(() => ({ meteredOn: parsed.data }))
    await this.#name()
  }

  /** A link that brings less than so many bytes a second when more is wanted is held for weak for a while. */
  async setWeakBelow(bytes: number | null): Promise<void> {
    this.#link.forget()
    await this.#save(() => ({ weakBelow: bytes }))
  }

  /** Carries connections between other hosts, but for while what goes over the network is limited here; or never. */
  async setRelays(relays: boolean): Promise<void> {
    await this.#save(() => ({ relays }))
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
   * Whether the user lets nothing of a parcel come that is not asked for.
   * @internal
   */
  isPaused(parcel: Parcel): boolean {
    const { isPaused, paused } = this.#state
    return isPaused || paused.includes(parcel.id.toString('hex'))
  }

  /**
   * A parcel has come into the list.
   * @internal
   */
  heed(parcel: Parcel): void {
    parcel.holdBack(this.#metered() !== null || this.isPaused(parcel))
  }

  /** Runs what sends a block to a host, in hex, when that may go. */
  sending(host: string, send: () => Promise<void>): Promise<void> {
    if (this.isHere(host)) return send()
    return this.#favour.run(host, () => this.#peer(host).up.run(() => this.up.run(send)))
  }

  /**
   * Has blocks go to a host, in hex, before all others as long as `isStill` says so. The last one that was
   * favoured is.
   * @internal
   */
  favour(host: string, isStill: () => boolean): void {
    this.#favour.set(host, isStill)
  }

  /** So much went to and came from a host, in hex. */
  spent(host: string, { received, sent }: { received: number; sent: number }): void {
    if (this.isHere(host)) return
    this.down.spend(received)
    this.up.spend(sent)
    if (sent > 0) this.#favour.account(host, sent)
    this.#link.spend(received)
    const { up, down } = this.#peer(host)
    up.spend(sent)
    down.spend(received)
  }

  /**
   * What may come from a host, in hex.
   * @internal
   */
  downOf(host: string): RateLimit {
    return this.#peer(host).down
  }

  #peer(host: string): { up: RateLimit; down: RateLimit } {
    const known = this.#peers.get(host)
    if (known !== undefined) return known
    const made = { up: new RateLimit(), down: new RateLimit() }
    made.up.rate = this.#rule?.peerUp ?? Infinity
    made.down.rate = this.#rule?.peerDown ?? Infinity
    this.#peers.set(host, made)
    return made
  }

  #metered(): Metered | null {
    if (this.#state.isMetered) return 'by hand'
    if (this.#isNamed === true) return 'by its name'
    return this.#link.isWeak ? 'by measure' : null
  }

  #look(): void {
    const isAwaited = this.#parcels.all.some((parcel) => parcel.isAwaited)
    this.#link.look(isAwaited, this.#state.weakBelow)
    this.#name().catch(() => {})
    this.#apply()
  }

  async #name(): Promise<void> {
    const { meteredOn: names } = this.#state
    this.#isNamed = names.length > 0 && (await networkNames()).some((name) => isOne(name, names))
    this.#apply()
  }

  /** That of the hour; null: there is none. */
  get #rule(): LimitRule | null {
    return ruleAt(this.#state.rules, this.#now())
  }

  #apply(): void {
    if (this.#isClosed) return
    const rule = this.#rule
    const wanted = [
      [this.up, rule?.up],
      [this.down, rule?.down],
      ...[...this.#peers.values()].flatMap(
        ({ up, down }) => [[up, rule?.peerUp] as const, [down, rule?.peerDown] as const] as const
      )
    ] as const
    for (const [limit, rate] of wanted) {
      const now = rate ?? Infinity
      if (limit.rate !== now) limit.rate = now
    }
    for (const parcel of this.#parcels.all) this.heed(parcel)
    if (this.#timer === undefined) return
    // What is relayed passes by all limits.
    const { relays, isPaused, meteredOn } = this.#state
    const isUnknown = meteredOn.length > 0 && this.#isNamed === null
    const isLimited = rule !== null || isPaused || isUnknown || this.#metered() !== null
    const isRelaying = relays && !isLimited
    if (isRelaying === this.#isRelaying) return
    this.#isRelaying = isRelaying
    this.onRelaying(isRelaying).catch(() => {
      // At the next look it is tried again.
      this.#isRelaying = !isRelaying
    })
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
