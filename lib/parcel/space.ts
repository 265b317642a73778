import { setTimeout } from 'node:timers/promises'
import type { Answerer } from '../answerer.js'
import { ParcelError } from '../errors.js'
import type { ControlBody } from '../format/control-record.js'
import { encodeMetaRecord } from '../format/meta-record.js'
import { MAX_ASKED, type Question } from '../format/recipe.js'
import type { Log } from '../log/log.js'
import type { Work } from '../progress.js'
import type { Availability } from './availability.js'
import type { ParcelContext } from './context.js'
import type { Known } from './history.js'
import type { Retention } from './local-state.js'
import type { LogSet } from './log-set.js'
import { Move, type MovedVersion } from './move.js'
import type { OwnLogs } from './own-logs.js'
import type { SavedState } from './saved-state.js'
import { survey } from './survey.js'

/** A smaller share of what nobody needs is not worth copying the rest: in large logs, and in others. */
const [WORTH, WORTH_SMALL, LARGE] = [0.08, 0.01, 256 * 1_048_576]
/** With more logs of its own than this the host makes one of them. */
const MOST_LOGS = 32
const POLL = 250

interface Parts {
  context: ParcelContext
  set: LogSet
  own: OwnLogs
  saved: SavedState
  availability: Availability
  answerers: () => readonly Answerer[]
  /** Versions that this host cannot be without, whatever the user forgot. */
  pinned: () => Known[]
  /** Whether somebody reads a version now, by places as they are. */
  isLent: () => boolean
  /** Whether this host may write records of versions. */
  mayWrite: () => boolean
  /** One thing at a time appends to this host's logs. */
  exclusive: <T>(work: () => Promise<T>) => Promise<T>
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
  pinned(): Known[] {
    return this.#parts.pinned()
  }

  /** How many versions are forgotten. */
  get forgottenCount(): number {
    const { saved, set } = this.#parts
    return saved.value.forgotten.filter((name) => set.history.get(Buffer.from(name, 'hex'))).length
  }

  /** Those of some versions that `forget` would forget. */
  unforgotten(versions: readonly Known[]): Known[] {
    const not = new Set(this.#parts.saved.value.forgotten)
    for (const { id } of this.pinned()) not.add(id.toString('hex'))
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
    const news = this.unforgotten(versions)
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
    for (const known of versions) await this.recall(known)
    onChange()
  }

  /** Sees to it that a version is fetched, also when this host was to be without it. */
  async recall({ id }: Known): Promise<void> {
    const { saved, set } = this.#parts
    const cores = new Set(set.history.coresOf(id).map(({ key }) => key.toString('hex')))
    const left = saved.value.letGo.filter((core) => !cores.has(core))
    if (left.length === saved.value.letGo.length) return
    saved.value.letGo = left
    await saved.save()
    await set.refresh()
  }

  /** Fetches again what a version needs that nobody has forgotten: somebody has gone on from it elsewhere. */
  async heed(): Promise<void> {
    const { saved, set } = this.#parts
    if (saved.value.letGo.length === 0 || this.#looked === set.history.size) return
    this.#looked = set.history.size
    const forgotten = new Set(saved.value.forgotten)
    const letGo = new Set(saved.value.letGo)
    for (const known of set.history.all()) {
      if (forgotten.has(known.id.toString('hex'))) continue
      const placements = set.history.placements(known.id)
      const isWithout = placements.every(({ heads }) =>
        heads.some(({ key }) => letGo.has(key.toString('hex')))
      )
      if (placements.length > 0 && isWithout) await this.recall(known)
    }
  }

  /** Which versions this host holds and will not be without before it has asked itself. */
  async held({ ids }: Question & { kind: 'held' }): Promise<boolean[]> {
    const { set, availability } = this.#parts
    return Promise.all(
      ids.map(async (id) => {
        if (this.isLeaving(id)) return false
        const known = set.history.get(id)
        if (known !== null) return availability.isHere(known)
        // A vault knows a version by what it has signed for.
        return set.control
          .receipts(id)
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
    const { set, saved, own, exclusive, onChange } = this.#parts
    this.#requireUnread()
    const pinned = new Set(this.#parts.pinned().map(({ id }) => id.toString('hex')))
    const doomed = [...set.history.all()].filter(
      (known) => this.isForgotten(known) && !pinned.has(known.id.toString('hex'))
    )
    // Before anybody is asked: whoever asks us meanwhile must not rely on them.
    for (const { id } of doomed) this.#leaving.add(id.toString('hex'))
    try {
      const { gone, kept, silent } = await this.#confirm(doomed, timeout, work)
      for (const { id } of kept) this.#leaving.delete(id.toString('hex'))
      const dropped = new Set(gone.map(({ id }) => id.toString('hex')))
      const isNeeded = ({ id }: Known): boolean => !dropped.has(id.toString('hex'))
      const moved = await this.#move(isNeeded, work)
      const letGo = this.#unneeded(isNeeded)
      // What it would not pay to copy the rest for stays, and others may go on relying on it.
      const held = gone.filter((known) => this.#isHereIn(known, letGo))
      await exclusive(async () => {
        await this.#sayLetGo(held, letGo)
        saved.value.letGo = [...new Set([...saved.value.letGo, ...letGo])]
        saved.value.isUnreclaimed ||= letGo.size > 0
        await saved.save()
        await set.letGo(letGo)
      })
      // Also what an earlier one was interrupted at.
      if (saved.value.isUnreclaimed) await this.#parts.context.store.reclaim()
      saved.value.isUnreclaimed = false
      if (own.current !== null) await own.saveMarks()
      onChange()
      const here = await Promise.all(gone.map((known) => this.#parts.availability.isHere(known)))
      const waiting = here.filter(Boolean).length
      return { dropped: held, waiting, kept, silent, moved }
    } finally {
      this.#leaving.clear()
    }
  }

  /** Which versions may go. A host counts that has signed for one and says now that it holds it. */
  async #confirm(
    doomed: readonly Known[],
    timeout: number,
    work: Work
  ): Promise<{ gone: Known[]; kept: Known[]; silent: string[] }> {
    const { availability, answerers, saved } = this.#parts
    const { copies } = saved.value
    const began = performance.now()
    const confirmed = new Map(doomed.map(({ id }) => [id.toString('hex'), new Set<string>()]))
    const asked = new Set<Answerer>()
    const isEnough = (known: Known): boolean =>
      availability.blocksOf(known).here === 0 ||
      (confirmed.get(known.id.toString('hex'))?.size ?? 0) >= copies
    for (;;) {
      work.signal.throwIfAborted()
      for (const answerer of answerers()) {
        if (asked.has(answerer)) continue
        asked.add(answerer)
        for (const held of await this.#ask(
          answerer,
          doomed.filter((known) => !isEnough(known))
        )) {
          confirmed.get(held.id.toString('hex'))?.add(answerer.host)
        }
      }
      const kept = doomed.filter((known) => !isEnough(known))
      if (kept.length === 0 || performance.now() - began >= timeout) {
        const heard = new Set([...asked].map(({ host }) => host))
        const holders = new Set(kept.flatMap((known) => [...availability.holders(known)]))
        holders.delete(this.#self)
        const silent = [...holders].filter((host) => !heard.has(host))
        return { gone: doomed.filter(isEnough), kept, silent }
      }
      work.report({
        step: 'asking other hosts',
        done: doomed.length - kept.length,
        total: doomed.length,
        unit: 'blocks'
      })
      await setTimeout(POLL, undefined, { signal: work.signal })
    }
  }

  async #ask(answerer: Answerer, versions: readonly Known[]): Promise<Known[]> {
    const { availability } = this.#parts
    const signed = versions.filter((known) => availability.holders(known).has(answerer.host))
    const held: Known[] = []
    for (let from = 0; from < signed.length; from += MAX_ASKED) {
      const part = signed.slice(from, from + MAX_ASKED)
      const answer = await answerer
        .held({ kind: 'held', ids: part.map(({ id }) => id) })
        .catch(() => null)
      held.push(...part.filter((_, i) => answer?.[i] === true))
    }
    return held
  }

  /**
   * Copies what is needed out of this host's own logs into a new one, if enough in them is not, and goes
   * on in that. Returns how many raw bytes were copied.
   */
  async #move(isNeeded: (known: Known) => boolean, work: Work): Promise<number> {
    const { set, own, context, exclusive, mayWrite } = this.#parts
    if (!mayWrite() || own.current === null) return 0
    const logs = this.#movable(isNeeded)
    const from = new Set<string>()
    let live = 0
    for (const [core, share] of await survey(this.#needed(isNeeded), logs, set, work)) {
      const { total } = share
      const isWorth = total - share.live > total * (total < LARGE ? WORTH_SMALL : WORTH)
      if (!isWorth && logs.size <= MOST_LOGS) continue
      from.add(core)
      live += share.live
    }
    if (from.size === 0) return 0
    const to = await own.startMove()
    let moved = 0
    const move = new Move({
      set,
      context,
      to,
      from,
      work,
      onMoved: (bytes) => {
        moved += bytes
        work.report({ step: 'copying', done: moved, total: Math.max(live, moved), unit: 'bytes' })
      }
    })
    const done = new Map<string, MovedVersion>()
    const moveAll = async (): Promise<void> => {
      const wanted = this.#needed(isNeeded).filter(({ id }) => !done.has(id.toString('hex')))
      const placements = wanted.flatMap(({ id }) => set.history.placement(id) ?? [])
      move.expect(placements)
      for (const known of wanted) {
        const placement = set.history.placement(known.id)
        const isTouched = placement?.heads.some(({ key }) => from.has(key.toString('hex'))) === true
        if (placement === null || !isTouched) continue
        done.set(known.id.toString('hex'), await move.version(known, placement))
      }
    }
    let isEnding = false
    const settle = async (): Promise<void> => {
      this.#requireUnread()
      await moveAll()
      const head = await to.head()
      const records = [...done.values()].flatMap(({ places, others, trace }) => [
        ...(trace === null ? [] : [encodeMetaRecord({ type: 'trace', trace })]),
        encodeMetaRecord({ type: 'moved', moved: { places, heads: [...others, head] } })
      ])
      if (records.length > 0) await own.require().meta.append(records.map((bytes) => [bytes]))
      await own.requireSameLogs(to)
      isEnding = true
      const stays = [...logs.values()].filter(({ key }) => !from.has(key.toString('hex')))
      await own.endMove(to, stays)
      await set.refresh()
    }
    try {
      // Suspends go on meanwhile; what they made is copied when nobody else appends.
      await moveAll()
      await exclusive(settle)
    } catch (error) {
      // Once it may be said that this host goes on in it, the next start sees whether it is.
      if (!isEnding) await own.abandonMove(to).catch(() => {})
      throw error
    }
    return moved
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

  /** Logs, in hex, that this host reads a version from when it is without those that it moved it out of. */
  #readFrom({ id }: Known): string[] {
    const { set, availability } = this.#parts
    const moved = set.history
      .placements(id)
      .find(({ host, heads }) => host === this.#self && availability.hasCores(heads))
    const heads = moved?.heads ?? set.history.coresOf(id)
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
        if (log === null || set.writerOf(log.key) !== this.#self) continue
        bodies.push({ type: 'drop', core: log.key, ranges: [{ start: 0, end: log.length }] })
      }
    }
    if (bodies.length > 0) await own.say(bodies)
  }

  #requireUnread(): void {
    if (!this.#parts.isLent()) return
    throw new ParcelError(
      'RUNNING',
      'a machine or a mount reads a version of it on demand: prune when it has ended'
    )
  }
}
