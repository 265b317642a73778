import picomatch from 'picomatch'
import type { HoardPolicy } from '../choices.js'
import { describeVersion } from './describe.js'
import { ParcelError } from '../errors.js'
import type { Home } from '../home.js'
import type { ForgetResult, PruneResult, RetentionPolicy } from '../info.js'
import { branchName, type Known } from '../parcel/history.js'
import type { Parcel } from '../parcel/parcel.js'
import type { ParcelList } from './parcel-list.js'
import { Task, type Work } from '../progress.js'

const TIMEOUT = 10_000
const DAY = 86_400_000
/** The first Monday of 1970, so that a week is one of the calendar's. */
const MONDAY = 4 * DAY
/** How often what policies say is done, ms. */
const EVERY = 3_600_000

interface Parts {
  home: Home
  parcels: ParcelList
}

/** Which versions need not be on this host, and how their space comes back. */
export class Retention {
  readonly #parts: Parts
  #timer: NodeJS.Timeout | undefined
  #running: Promise<void> | null = null
  readonly #abort = new AbortController()

  /** @internal */
  constructor(parts: Parts) {
    this.#parts = parts
  }

  /** Does what policies say by itself, until it is closed. */
  start(every = EVERY): void {
    this.#timer = setInterval(() => void this.go().catch(() => {}), every).unref()
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    this.#abort.abort()
    await this.#running?.catch(() => {})
  }

  /**
   * Says that versions need not be on this host: some by their names, and all but those that a policy
   * keeps. The newest ones, and the one that the folder here continues, always stay. What was forgotten
   * stays until `prune`. `isDry`: only tells which they are. Throws UNKNOWN_VERSION, USAGE.
   */
  async forget(
    name: string,
    {
      versions = [],
      policy = null,
      isDry = false
    }: { versions?: readonly string[]; policy?: RetentionPolicy | null; isDry?: boolean }
  ): Promise<ForgetResult> {
    const parcel = this.#parts.parcels.named(name)
    const named = versions.map((each) => parcel.history.resolve(each))
    const pinned = new Set((await parcel.space.pinned()).map(({ id }) => id.toString('hex')))
    const bad = named.find(({ id }) => pinned.has(id.toString('hex')))
    if (bad !== undefined) {
      throw new ParcelError(
        'USAGE',
        `${bad.id.toString('hex', 0, 6)} is the newest version, or the one that the folder here continues: it stays`
      )
    }
    const chosen = [...named, ...(policy === null ? [] : unkept(parcel, policy))]
    const news = isDry ? await parcel.space.unforgotten(chosen) : await parcel.space.forget(chosen)
    const { home } = this.#parts
    return {
      forgotten: await Promise.all(news.map((known) => describeVersion(parcel, known, home))),
      kept: parcel.history.size - parcel.space.forgottenCount - (isDry ? news.length : 0)
    }
  }

  /** Takes `forget` back for some versions; none: for all. What has gone comes again from hosts that have it. */
  async remember(name: string, versions: readonly string[]): Promise<void> {
    const parcel = this.#parts.parcels.named(name)
    const chosen =
      versions.length === 0
        ? [...parcel.history.all()]
        : versions.map((each) => parcel.history.resolve(each))
    await parcel.space.remember(chosen)
  }

  /** What is forgotten and pruned by itself; null: nothing. */
  policy(name: string): RetentionPolicy | null {
    return this.#parts.parcels.named(name).space.policy
  }

  /** Which versions come here by themselves, and which files of them. */
  hoard(name: string): HoardPolicy {
    return this.#parts.parcels.named(name).hoard.policy
  }

  /** What is here stays. Throws USAGE. */
  async setHoard(name: string, policy: HoardPolicy): Promise<void> {
    const parcel = this.#parts.parcels.named(name)
    if (parcel.keyring.isBlind) throw new ParcelError('USAGE', 'a vault keeps all that it is given')
    await parcel.hoard.setPolicy(policy)
  }

  async setPolicy(name: string, policy: RetentionPolicy | null): Promise<void> {
    await this.#parts.parcels.named(name).space.setPolicy(policy)
  }

  /**
   * Gives back the space of what was forgotten. A version goes when so many other hosts as `copies` says
   * have signed for it and confirm it now, within `timeout` ms. Throws RUNNING, TOO_FEW_COPIES when some
   * must stay (what may go has gone then), DISK_FULL.
   */
  prune(name: string, { timeout = TIMEOUT }: { timeout?: number } = {}): Task<PruneResult> {
    return new Task((work) => this.#prune(this.#parts.parcels.named(name), timeout, work))
  }

  /** Does what policies say now. */
  go(): Promise<void> {
    this.#running ??= this.#run().finally(() => (this.#running = null))
    return this.#running
  }

  async #run(): Promise<void> {
    const work: Work = { report: () => {}, note: () => {}, signal: this.#abort.signal }
    for (const parcel of this.#parts.parcels.all) {
      const { policy } = parcel.space
      if (policy === null || this.#abort.signal.aborted) continue
      const news = await parcel.space.forget(unkept(parcel, policy))
      if (news.length === 0 && !parcel.space.isUnreclaimed) continue
      await this.#prune(parcel, TIMEOUT, work).catch((error: unknown) => {
        const { code, message } = ParcelError.from(error)
        // It is tried again with the next version that is forgotten.
        if (!['RUNNING', 'INTERRUPTED'].includes(code)) parcel.problem('', message)
      })
    }
  }

  async #prune(parcel: Parcel, timeout: number, work: Work): Promise<PruneResult> {
    const { dropped, waiting, kept, silent, moved } = await parcel.space.prune({ timeout }, work)
    if (kept.length > 0) throw tooFew(parcel, kept, silent)
    const versions = dropped.map(({ id }) => id.toString('hex'))
    return { versions, waiting, moved }
  }
}

function tooFew(parcel: Parcel, kept: readonly Known[], silent: readonly string[]): ParcelError {
  const { copies } = parcel.settings
  const count = kept.length === 1 ? '1 version stays' : `${kept.length} versions stay`
  const others = copies === 1 ? 'no other host has' : `fewer than ${copies} other hosts have`
  const names = silent.map((host) => parcel.hostName(host))
  const help =
    names.length > 0
      ? `bring ${names.join(' or ')} online and do it again`
      : `let another host or a vault fetch them first, or say 'hyperparcel copies ${parcel.name} 0' to lose them`
  return new ParcelError(
    'TOO_FEW_COPIES',
    `${count} on this host: ${others} confirmed now to have them: ${help}`
  )
}

/** Versions that a policy does not keep. */
function unkept(parcel: Parcel, policy: RetentionPolicy): Known[] {
  const { history } = parcel
  const keep = new Set<Known>()
  for (const versions of byBranch(history.list()).values()) {
    for (const known of versions.slice(0, policy.last)) keep.add(known)
    for (const [span, start, count] of [
      [DAY, 0, policy.daily],
      [7 * DAY, MONDAY, policy.weekly]
    ] as const) {
      const seen = new Set<number>()
      for (const known of versions) {
        const offset = new Date(known.version.created).getTimezoneOffset() * 60_000
        const at = Math.floor((known.version.created - offset - start) / span)
        if (seen.size === count && !seen.has(at)) break
        if (!seen.has(at)) keep.add(known)
        seen.add(at)
      }
    }
  }
  const fits = picomatch(policy.tags, { dot: true })
  for (const { name, version } of history.tags.list()) {
    const known = fits(name) ? history.get(version) : null
    if (known !== null) keep.add(known)
  }
  return [...history.all()].filter((known) => !keep.has(known))
}

/** Newest first in each. */
function byBranch(versions: readonly Known[]): Map<string, Known[]> {
  const branches = new Map<string, Known[]>()
  for (const known of versions) {
    const name = branchName(known.version)
    branches.set(name, [...(branches.get(name) ?? []), known])
  }
  return branches
}
