import type { Answerer } from '../../answerer.js'
import { ParcelError } from '../../errors.js'
import type { ControlBody } from '../../format/control-record.js'
import type { Question } from '../../format/recipe.js'
import type { CoreHead } from '../../format/version.js'
import type { Keyring } from '../../keys/keyring.js'
import type { Log } from '../../log/log.js'
import type { Work } from '../../progress.js'
import type { Availability } from '../availability.js'
import { confirm, type Confirmed, type ConfirmOptions } from './confirm.js'
import type { ParcelContext } from '../context.js'
import type { Known, Placement } from '../history.js'
import type { Retention } from '../local-state.js'
import type { LogSet } from '../logs/log-set.js'
import { isFor } from '../members/covering.js'
import { moveVersions } from './move-versions.js'
import type { OwnLogs } from '../logs/own-logs.js'
import type { SavedState } from '../saved-state.js'
import { survey } from './survey.js'

/** A smaller share of what nobody needs is not worth copying the rest: in large logs, and in others. */
const [WORTH, WORTH_SMALL, LARGE] = [0.08, 0.01, 256 * 1_048_576]
/** With more logs of its own than this the host makes one of them. */
const MOST_LOGS = 32
/** So long other hosts may take to confirm once more, ms. */
const AGAIN = 10_000

interface Parts {
  context: ParcelContext
  set: LogSet
  own: OwnLogs
  saved: SavedState
  availability: Availability
  answerers: () => readonly Answerer[]
  /** Versions that this host cannot be without, whatever the user forgot. */
  pinned: () => Promise<Known[]>
  /** Other hosts, in hex, that may read a version on demand, by places as they are. */
  readers: () => string[]
  /** Whether somebody reads a version now, by places as they are. */
  isLent: () => boolean
  /** Whether this host may write records of versions. */
  mayWrite: () => boolean
  /** One thing at a time appends to this host's logs. */
  exclusive: <T>(work: () => Promise<T>) => Promise<T>
  keyring: Keyring
  onChange: () => void
}

export interface Pruned {
  /** Versions that this host is without now. */
  dropped: Known[]
  /** How many more may go, but share their logs with others: their space is not worth copying those. */
  waiting: number
  /** Versions that stay, since too few other hosts have confirmed that they hold them. */
  kept: Known[]
  /** Hosts, in hex, that have signed for one of those and did not answer. */
  silent: string[]
  /** Raw bytes that were copied to where they can stay. */
  moved: number
}

/** What of a parcel need not be on this host, and how its space comes back. */
export class Space {
  readonly #parts: Parts
  readonly #self: string
  /** Versions about to go, in hex: this host does not vouch for them any more. */
  readonly #leaving = new Set<string>()
  #pruning: Promise<unknown> = Promise.resolve()
  readonly #stopping = new AbortController()
  #looked = -1
  /** Versions that somebody reads now, or is about to. */
  readonly #wanted: Known[] = []

  constructor(parts: Parts) {
    this.#parts = parts
    this.#self = parts.context.identity.publicKey.toString('hex')
  }

  async close(): Promise<void> {
    this.#stopping.abort()
    await this.#pruning
  }

  /** Whether the user has said that a version need not be on this host. */
  isForgotten({ id }: Known): boolean {
    return this.#parts.saved.value.forgotten.includes(id.toString('hex'))
  }

  /** Versions that this host cannot be without. */
  pinned(): Promise<Known[]> {
    return this.#parts.pinned()
  }

  /** Whether space was freed that has not been given back to the disk. */
  get isUnreclaimed(): boolean {
    return this.#parts.saved.value.isUnreclaimed
  }

  /** How many versions are forgotten. */
  get forgottenCount(): number {
    const { saved, set } = this.#parts
    return saved.value.forgotten.filter((name) => set.history.get(Buffer.from(name, 'hex'))).length
  }

  /** Those of some versions that `forget` would forget. */
  async unforgotten(versions: readonly Known[]): Promise<Known[]> {
    const not = new Set(this.#parts.saved.value.forgotten)
    for (const { id } of await this.pinned()) not.add(id.toString('hex'))
    const news = new Map(versions.map((known) => [known.id.toString('hex'), known]))
    return [...news].flatMap(([name, known]) => (not.has(name) ? [] : [known]))
  }

  get policy(): Retention | null {
    return this.#parts.saved.value.retention
  }

  async setPolicy(policy: Retention | null): Promise<void> {
    this.#parts.saved.value.retention = policy
    await this.#parts.saved.save()
  }

  isLeaving(version: Buffer): boolean {
    return this.#leaving.has(version.toString('hex'))
  }

  isLetGo(core: string): boolean {
    return this.#parts.saved.value.letGo.includes(core)
  }

  /** What need not be on this host any more; it stays until a prune. Returns what was not forgotten before. */
  async forget(versions: readonly Known[]): Promise<Known[]> {
    const { saved, onChange } = this.#parts
    const news = await this.unforgotten(versions)
    if (news.length === 0) return []
    saved.value.forgotten.push(...news.map(({ id }) => id.toString('hex')))
    await saved.save()
    onChange()
    return news
  }

  /** Takes `forget` back; what has gone comes again from hosts that have it. */
  async remember(versions: readonly Known[]): Promise<void> {
    const { saved, onChange } = this.#parts
    const names = new Set(versions.map(({ id }) => id.toString('hex')))
    saved.value.forgotten = saved.value.forgotten.filter((name) => !names.has(name))
    await saved.save()
    for (const known of versions) await this.#parts.exclusive(() => this.#recall(known))
    onChange()
  }

  /**
   * Sees to it that a version is fetched, also when this host was to be without it, and stays until the
   * returned function is called.
   */
  async hold(known: Known): Promise<() => void> {
    this.#wanted.push(known)
    const release = (): void => {
      const at = this.#wanted.indexOf(known)
      if (at >= 0) this.#wanted.splice(at, 1)
    }
    try {
      await this.#parts.exclusive(() => this.#recall(known))
    } catch (error) {
      release()
      throw error
    }
    return release
  }

  async #recall({ id }: Known): Promise<void> {
    const { set } = this.#parts
    await this.#bringBack(new Set(set.history.coresOf(id).map(({ key }) => key.toString('hex'))))
  }

  /** Fetches `data` logs again, in hex. */
  async #bringBack(cores: ReadonlySet<string>): Promise<void> {
    const { saved, set } = this.#parts
    const left = saved.value.letGo.filter((core) => !cores.has(core))
    if (left.length === saved.value.letGo.length) return
    saved.value.letGo = left
    await saved.save()
    await set.refresh()
  }

  /** Fetches again what a version needs that nobody has forgotten: somebody has gone on from it elsewhere. */
  async heed(): Promise<void> {
    const { saved, set, exclusive } = this.#parts
    if (saved.value.letGo.length === 0 || this.#looked === set.history.revision) return
    this.#looked = set.history.revision
    await exclusive(async () => {
      const forgotten = new Set(saved.value.forgotten)
      const letGo = new Set(saved.value.letGo)
      const isLetGo = ({ key }: CoreHead): boolean => letGo.has(key.toString('hex'))
      const back = new Set<string>()
      for (const known of set.history.all()) {
        if (forgotten.has(known.id.toString('hex'))) continue
        const places = set.history.placements(known.id)
        const found = places.filter((placement) => !this.#isLost(known, placement))
        if (found.some(({ heads }) => !heads.some(isLetGo))) continue
        for (const { key } of set.history.best(found)?.heads ?? []) back.add(key.toString('hex'))
      }
      await this.#bringBack(back)
    })
  }

  /** Whether this host has lost blocks of its own that a version is read from there, and nobody vouches for them. */
  #isLost({ id }: Known, { heads }: Placement): boolean {
    const { set } = this.#parts
    const isLacking = heads.some(({ key, length }) => {
      const log = set.get(key)
      const isOwn = set.writerOf(key) === this.#self
      return isOwn && log !== null && (log.length < length || !log.has(0, length))
    })
    return (
      isLacking &&
      !set.control.receipts
        .of(id)
        .some(({ host, cores }) => host !== this.#self && isFor(cores, heads))
    )
  }

  /** A vault: is without logs, in hex, that no host needs any more. */
  async abandon(cores: ReadonlySet<string>): Promise<void> {
    const { set, saved, own, exclusive, context } = this.#parts
    await exclusive(async () => {
      const bodies: ControlBody[] = []
      for (const version of set.control.receipts.versions()) {
        const isOfThem = set.control.receipts
          .of(version)
          .some(
            (receipt) =>
              receipt.host === this.#self &&
              receipt.cores.some(({ head }) => cores.has(head.key.toString('hex')))
          )
        if (isOfThem) bodies.push({ type: 'pin', version, pinned: false })
      }
      if (bodies.length > 0 && own.current !== null) await own.say(bodies)
      await this.#letGo(cores)
    })
    await context.store.reclaim()
    saved.value.isUnreclaimed = false
  }

  /** Takes off the disk what was to be when this host died. */
  async recover(): Promise<void> {
    const { saved, context } = this.#parts
    if (!saved.value.isUnreclaimed) return
    for (const core of saved.value.letGo) {
      await context.store.discard(Buffer.from(core, 'hex'), this.#parts.keyring)
    }
  }

  /** Which versions this host holds and will not be without before it has asked itself. */
  async held({ ids }: Question & { kind: 'held' }): Promise<boolean[]> {
    const { set, availability, saved } = this.#parts
    return Promise.all(
      ids.map(async (id) => {
        if (this.isLeaving(id) || saved.value.carriesTo.length > 0) return false
        const known = set.history.get(id)
        if (known !== null) return availability.isHere(known)
        // A vault knows a version by what it has signed for.
        return set.control.receipts
          .of(id)
          .some(
            ({ host, cores }) =>
              host === this.#self && availability.hasCores(cores.map(({ head }) => head))
          )
      })
    )
  }

  /**
   * Gives back the space of forgotten versions that so many other hosts hold as `copies` says, each of
   * which confirms it within `timeout` ms: what they have in common with others is copied on. It can be
   * interrupted at any point. Throws RUNNING, DISK_FULL.
   */
  prune({ timeout }: { timeout: number }, work: Work): Promise<Pruned> {
    const signal = AbortSignal.any([work.signal, this.#stopping.signal])
    const run = this.#pruning.then(() => this.#prune(timeout, { ...work, signal }))
    this.#pruning = run.catch(() => {})
    return run
  }

  async #prune(timeout: number, work: Work): Promise<Pruned> {
    const { set, saved, own, exclusive, onChange, availability, context } = this.#parts
    this.#requireUnread()
    return this.#leavingWhile(await this.#doomed(), async (doomed) => {
      const { gone, kept, silent } = await this.#confirm(doomed, { timeout, work })
      const moved = await this.#move(isOther(gone), work)
      // Copying may have taken long: whoever has confirmed it may be without it by now.
      const again = await this.#confirm(gone, { timeout: Math.min(timeout, AGAIN), work })
      const dropped = await exclusive(async () => {
        this.#requireUnread()
        // Somebody may want it after all.
        const still = new Set(await this.#doomed())
        const going = again.gone.filter((known) => still.has(known))
        const letGo = this.#unneeded(isOther(going))
        // What it would not pay to copy the rest for stays, and others may go on relying on it.
        const held = going.filter((known) => this.#isHereIn(known, letGo))
        await this.#sayLetGo(held, letGo)
        await this.#letGo(letGo)
        return held
      })
      this.#looked = -1
      await this.heed()
      // Also what an earlier one was interrupted at.
      if (saved.value.isUnreclaimed) await context.store.reclaim()
      saved.value.isUnreclaimed = false
      if (own.current !== null) await own.saveMarks()
      const stay = [...kept, ...again.kept]
      const isStaying = new Set([...stay, ...dropped])
      const here = await Promise.all(
        gone.map(async (known) => !isStaying.has(known) && (await availability.isHere(known)))
      )
      await set.refresh()
      onChange()
      const waiting = here.filter(Boolean).length
      return {
        dropped,
        waiting,
        kept: stay,
        silent: [...new Set([...silent, ...again.silent])],
        moved
      }
    })
  }

  /** Forgotten versions that may go. */
  async #doomed(): Promise<Known[]> {
    const { set, saved } = this.#parts
    const stays = new Set((await this.pinned()).map(({ id }) => id.toString('hex')))
    for (const { id } of this.#wanted) stays.add(id.toString('hex'))
    const forgotten = new Set(saved.value.forgotten)
    return [...set.history.all()].filter(({ id }) => {
      const name = id.toString('hex')
      return forgotten.has(name) && !stays.has(name)
    })
  }

  /** Meanwhile no other host is told that it can rely on these versions here. */
  async #leavingWhile<T>(
    versions: readonly Known[],
    work: (versions: readonly Known[]) => Promise<T>
  ): Promise<T> {
    for (const { id } of versions) this.#leaving.add(id.toString('hex'))
    try {
      return await work(versions)
    } finally {
      for (const { id } of versions) this.#leaving.delete(id.toString('hex'))
    }
  }

  /**
   * Runs work that takes all versions off this host, if at least one other holds each that is whole here
   * and confirms it within `timeout` ms; returns those that nobody does, and then does not run it.
   */
  leave(timeout: number, work: Work, run: () => Promise<void>): Promise<Known[]> {
    return this.#leavingWhile([...this.#parts.set.history.all()], async (versions) => {
      const { availability } = this.#parts
      const here = await Promise.all(versions.map((known) => availability.isHere(known)))
      const whole = versions.filter((_, i) => here[i])
      const { kept } = await this.#confirm(whole, { timeout, work, copies: 1 })
      if (kept.length === 0) await run()
      return kept
    })
  }

  async #letGo(cores: ReadonlySet<string>): Promise<void> {
    const { saved, set } = this.#parts
    if (cores.size === 0) return
    saved.value.letGo = [...new Set([...saved.value.letGo, ...cores])]
    saved.value.isUnreclaimed = true
    await saved.save()
    await set.letGo(cores)
  }

  #confirm(
    versions: readonly Known[],
    how: Pick<ConfirmOptions, 'timeout' | 'work'> & Partial<Pick<ConfirmOptions, 'copies'>>
  ): Promise<Confirmed> {
    const { availability, answerers, saved } = this.#parts
    const { copies } = saved.value
    return confirm(versions, { availability, answerers, self: this.#self, copies, ...how })
  }

  /**
   * Copies what is needed out of this host's own logs into a new one, if enough in them is not, and goes
   * on in that. Returns how many raw bytes were copied.
   */
  async #move(isNeeded: (known: Known) => boolean, work: Work): Promise<number> {
    const { set, own, mayWrite } = this.#parts
    if (!mayWrite() || own.current === null) return 0
    const logs = this.#movable(isNeeded)
    const from = new Set<string>()
    let live = 0
    const unreadable = new Set<string>()
    const shares = await survey(this.#needed(isNeeded), logs, set, {
      work,
      onUnreadable: ({ id }) => {
        for (const { key } of set.history.coresOf(id)) unreadable.add(key.toString('hex'))
      }
    })
    for (const [core, share] of shares) {
      if (unreadable.has(core)) continue
      const { total } = share
      const isWorth = total - share.live > total * (total < LARGE ? WORTH_SMALL : WORTH)
      if (!isWorth && logs.size <= MOST_LOGS) continue
      from.add(core)
      live += share.live
    }
    if (from.size === 0) return 0
    let moved = 0
    const stays = [...logs.values()].filter(({ key }) => !from.has(key.toString('hex')))
    await moveVersions(this.#parts, {
      wanted: () => this.#needed(isNeeded),
      from: new Map([...from].map((core) => [core, 0])),
      stays: () => stays,
      isAlways: true,
      requireUnread: () => this.#requireUnread(),
      work,
      onMoved: (bytes) => {
        moved += bytes
        work.report({ step: 'copying', done: moved, total: Math.max(live, moved), unit: 'bytes' })
      }
    })
    return moved
  }

  /**
   * Copies what versions need of some logs of whoever, in hex, each from a block on, into a new log of this
   * host; without any to copy nothing is changed. Throws DISK_FULL.
   */
  async rescue(
    wanted: () => readonly Known[],
    from: ReadonlyMap<string, number>,
    work: Work
  ): Promise<void> {
    const { set } = this.#parts
    const isOwn = ({ key }: Log): boolean => set.writerOf(key) === this.#self
    const stays = (): Log[] => {
      const named = set.history.cores()
      return set.logs().filter((log) => isOwn(log) && named.has(log.key.toString('hex')))
    }
    // What is read from where it is goes on being there.
    const requireUnread = (): void => {}
    await moveVersions(this.#parts, {
      wanted,
      from,
      stays,
      isAlways: false,
      requireUnread,
      work,
      onMoved: () => {}
    })
  }

  /** Versions that stay, newest first. */
  #needed(isNeeded: (known: Known) => boolean): Known[] {
    const { history } = this.#parts.set
    return history.list().filter((known) => isNeeded(known) && history.isPlaced(known.id))
  }

  /** This host's own `data` logs out of which all that is needed can be copied, by core in hex. */
  #movable(isNeeded: (known: Known) => boolean): Map<string, Log> {
    const { set, availability } = this.#parts
    const own = new Map<string, Log>()
    const partly = new Set<string>()
    for (const { id } of this.#needed(isNeeded)) {
      const heads = set.history.coresOf(id)
      const isWhole = availability.hasCores(heads)
      for (const { key } of heads) {
        const log = set.get(key)
        if (log === null || set.writerOf(key) !== this.#self) continue
        own.set(key.toString('hex'), log)
        if (!isWhole) partly.add(key.toString('hex'))
      }
    }
    for (const core of partly) own.delete(core)
    return own
  }

  /** `data` logs that only versions name that this host need not have, in hex. */
  #unneeded(isNeeded: (known: Known) => boolean): Set<string> {
    const { set, own } = this.#parts
    const current = own.current?.data.key.toString('hex')
    const named = new Set<string>()
    const needed = new Set<string>()
    for (const known of set.history.all()) {
      for (const { heads } of set.history.placements(known.id)) {
        for (const { key } of heads) named.add(key.toString('hex'))
      }
      if (isNeeded(known)) for (const key of this.#readFrom(known)) needed.add(key)
    }
    const data = set.logs().filter(({ kind }) => kind === 'data')
    const names = data.map(({ key }) => key.toString('hex'))
    return new Set(names.filter((name) => name !== current && named.has(name) && !needed.has(name)))
  }

  /** Logs, in hex, that a version that stays needs: of a placement that is whole here, else of all. */
  #readFrom({ id }: Known): string[] {
    const { set, availability } = this.#parts
    const placements = set.history.placements(id)
    const whole = placements.find(({ heads }) => availability.hasCores(heads))
    const heads = whole?.heads ?? placements.flatMap((each) => each.heads)
    return heads.map(({ key }) => key.toString('hex'))
  }

  /** Whether something of a version is here, and will not be without some logs. */
  #isHereIn(known: Known, cores: ReadonlySet<string>): boolean {
    const { set, availability } = this.#parts
    const heads = set.history.coresOf(known.id)
    return (
      availability.blocksOf(known).here > 0 &&
      heads.some(({ key }) => cores.has(key.toString('hex')))
    )
  }

  /** Tells the others, before anything is gone. */
  async #sayLetGo(versions: readonly Known[], cores: ReadonlySet<string>): Promise<void> {
    const { own, set, saved } = this.#parts
    if (own.current === null) return
    const bodies: ControlBody[] = versions.map(({ id }) => ({
      type: 'pin',
      version: id,
      pinned: false
    }))
    // No other host is to have them: vaults, which do not know what is in them, are without them too.
    if (saved.value.copies === 0) {
      for (const core of cores) {
        const log = set.get(Buffer.from(core, 'hex'))
        if (log === null || log.length === 0) continue
        bodies.push({ type: 'drop', core: log.key, ranges: [{ start: 0, end: log.length }] })
      }
    }
    if (bodies.length > 0) await own.say(bodies)
  }

  #requireUnread(): void {
    const [reader] = this.#parts.readers()
    if (reader !== undefined) {
      const name = this.#parts.set.nameOf(reader)
      throw new ParcelError(
        'RUNNING',
        `its machine runs on ${name}, which may read what would be moved: prune when it is suspended`
      )
    }
    if (!this.#parts.isLent()) return
    throw new ParcelError(
      'RUNNING',
      'a machine or a mount reads a version of it on demand: prune when it has ended'
    )
  }
}

/** Whether a version is none of some. */
function isOther(versions: readonly Known[]): (known: Known) => boolean {
  const names = new Set(versions.map(({ id }) => id.toString('hex')))
  return ({ id }) => !names.has(id.toString('hex'))
}
