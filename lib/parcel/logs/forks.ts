import type { Answerer } from '../../answerer.js'
import { ParcelError } from '../../errors.js'
import type { ControlBody } from '../../format/control-record.js'
import { MAX_ASKED } from '../../format/recipe.js'
import type { SignedState } from '../../format/signed-state.js'
import type { CoreHead } from '../../format/version.js'
import type { Keyring } from '../../keys/keyring.js'
import { hashesWithin } from '../../log/signed-state.js'
import type { Log } from '../../log/log.js'
import type { Work } from '../../progress.js'
import type { Author } from '../commit/author.js'
import type { Availability } from '../availability.js'
import type { ParcelContext } from '../context.js'
import { mayWrite, type Fork } from '../members/control.js'
import { stateName, type Known, type Placement } from '../history.js'
import type { LogSet } from './log-set.js'
import type { OwnLogs } from './own-logs.js'
import type { Space } from '../space/space.js'

/** All hosts are asked anew at most so often, ms. */
const AGAIN = 1_000
/**
 * A log is taken back no more than so often in a run for one word of its writer. After the first time it can
 * come with the wrong past again, from a host that has not heard yet which one counts.
 */
const MOST_REWINDS = 8

interface Parts {
  context: ParcelContext
  set: LogSet
  own: OwnLogs
  author: Author
  space: Space
  keyring: Keyring
  availability: Availability
  answerers: () => readonly Answerer[]
  /** This host has others' word that it was put back to an earlier state. */
  onRollback: () => void
  /** Notes that this host goes on in new logs. */
  note: (why: string) => void
  /** Whether somebody reads a version here, by places as they are. */
  isLent: () => boolean
  /** Whether there are logs here with the wrong past has changed. */
  onUnsettled: () => void
  /** One thing at a time appends to this host's logs. */
  exclusive: <T>(work: () => Promise<T>) => Promise<T>
}

/** What is said of a log that was written twice, without where all that was said stands once more. */
type Forked = Omit<Extract<ControlBody, { type: 'forked' }>, 'repeated'>

/** A log of this host of which another one holds a past that is not the one here. */
interface OtherPast {
  log: Log
  /** Of the past that others have. */
  head: CoreHead
  /** Blocks before it are common to both. */
  start: number
}

/**
 * What becomes of a log that was written twice: by this host before its whole home was put back from a copy,
 * and after. On meeting somebody this host asks what they have of its logs. Their past counts; what only the
 * other one has is written into new logs, here and wherever it has been taken for the log; then that one is
 * taken back to what both have in common, and the rest is fetched. Nothing of either is lost.
 */
export class Forks {
  readonly #parts: Parts
  readonly #self: string
  readonly #asked = new WeakSet<Answerer>()
  /** How often a log was taken back since the start for what its writer says, by the record's id in hex. */
  readonly #rewound = new Map<string, number>()
  /** Logs, in hex, of which somebody has shown another past. */
  readonly #suspected = new Set<string>()
  /** Logs, in hex, that are here with the wrong past. */
  readonly #unsettled = new Set<string>()
  /** Versions that could not be copied out of a log, by both in hex: not tried again before the next start. */
  readonly #stuck = new Set<string>()
  #asking: Promise<unknown> = Promise.resolve()
  #beginning: Promise<void> = Promise.resolve()
  #heeding: Promise<unknown> | null = null
  #isStale = false
  #askedAgain = -Infinity
  readonly #closed = new AbortController()
  /** Whether another host has said what it has of this host's logs. */
  isHeard = false

  constructor(parts: Parts) {
    this.#parts = parts
    this.#self = parts.context.identity.publicKey.toString('hex')
  }

  async close(): Promise<void> {
    this.#closed.abort()
    await this.#asking.catch(() => {})
    await this.#beginning.catch(() => {})
    await this.#heeding?.catch(() => {})
  }

  /** Asks every host that is connected and was not asked yet. Settles when all that follows from it is done. */
  ask(): Promise<void> {
    const fresh = this.#parts.answerers().filter((answerer) => !this.#asked.has(answerer))
    for (const answerer of fresh) this.#asked.add(answerer)
    this.#asking = this.#asking.then(async () => {
      for (const answerer of fresh) {
        await this.#ask(answerer).catch((error: unknown) => {
          this.#asked.delete(answerer)
          this.#failed(error)
        })
      }
    })
    return this.#asking.then(() => this.#heeding ?? Promise.resolve()).then(() => {})
  }

  /** A peer shows, or pretends to have, another past of a log. */
  suspect(log: Log): void {
    const now = performance.now()
    const core = log.key.toString('hex')
    const { set } = this.#parts
    // Of its own one it may have said so before it ended, and then it is to be taken back like any other.
    if (set.writerOf(log.key) !== this.#self || set.control.forks(core, this.#self).length > 0) {
      this.#suspected.add(core)
      this.heed()
      return
    }
    if (now - this.#askedAgain < AGAIN) return
    this.#askedAgain = now
    for (const answerer of this.#parts.answerers()) this.#asked.delete(answerer)
    void this.ask()
  }

  /** Looks whether something can be done about logs with two pasts. */
  heed(): void {
    this.#isStale = true
    this.#heeding ??= this.#heedAll().finally(() => {
      this.#heeding = null
      if (this.#isStale && !this.#isClosed) this.heed()
    })
  }

  get #isClosed(): boolean {
    return this.#closed.signal.aborted
  }

  #failed(error: unknown): void {
    if (!this.#isClosed) this.#parts.set.problem('', ParcelError.from(error).message)
  }

  async #ask(answerer: Answerer): Promise<void> {
    const { set, own } = this.#parts
    const logs = set.logs().filter((log) => set.writerOf(log.key) === this.#self && log.length > 0)
    const found: OtherPast[] = []
    for (let at = 0; at < logs.length; at += MAX_ASKED) {
      const some = logs.slice(at, at + MAX_ASKED)
      const asked = some.map(({ key, length }) => ({ core: key, length }))
      const states = await answerer.states({ kind: 'states', logs: asked }).catch(() => null)
      if (this.#isClosed) return
      if (states === null) {
        // It may answer when it is heard again.
        this.#asked.delete(answerer)
        return
      }
      for (const [i, log] of some.entries()) {
        const state = states[i] ?? null
        const length = asked[i]?.length ?? 0
        if (state === null || set.get(log.key) !== log) continue
        const other = await this.#compare(log, length, state)
        if (other === 'ahead' && own.current?.logs.includes(log) === true) {
          log.noteContinuedElsewhere()
          this.#parts.onRollback()
        } else if (other !== null && other !== 'ahead') found.push(other)
      }
    }
    this.isHeard = true
    if (found.length > 0) await this.#begin(found)
  }

  /** `ahead`: the other host has all that is here, and more; null: what is here, or less of it. */
  async #compare(
    log: Log,
    length: number,
    state: SignedState
  ): Promise<OtherPast | 'ahead' | null> {
    const treeHash = await log.provenHash(state)
    if (treeHash === null) return null
    // It may have grown here since, and have come there.
    const isAhead = state.length > log.length
    const here = (await log.head(isAhead ? length : state.length)).treeHash
    if (here.equals(isAhead ? state.asked : treeHash)) return isAhead ? 'ahead' : null
    const core = log.key.toString('hex')
    // It is settled. Who shows another past has not heard so, or has a third one, and keeps that.
    if (this.#parts.set.control.forks(core, this.#self).length > 0) return null
    const head = { key: log.key, fork: state.fork, length: state.length, treeHash }
    return { log, head, start: await this.#start(log, state) }
  }

  /** What this log and a state of it surely have in common: of the trees below the state's roots all that are here. */
  async #start(log: Log, state: SignedState): Promise<number> {
    let start = 0
    for (const { length, treeHash } of hashesWithin(state)) {
      if (length > log.length) break
      if ((await log.head(length)).treeHash.equals(treeHash)) start = length
    }
    return start
  }

  /**
   * Goes on in new logs, in which all that this host has said stands once more, with what only the past that
   * is here has; then says which past counts. Who has heard that can tell what this host does not have.
   */
  #begin(found: readonly OtherPast[]): Promise<void> {
    const begun = this.#beginning.then(async () => {
      const forks = await this.#repeat(found)
      for (const { core, start } of forks) {
        const log = this.#parts.set.get(core)
        if (log?.kind !== 'data' || this.#isClosed) continue
        // What cannot be copied stays where it is: others may have it.
        await this.#rescue(log, start, () => true).catch((error: unknown) => this.#failed(error))
      }
      // Also when this host is about to end: the rest is saved at the next start.
      await this.#sayForks(forks)
    })
    this.#beginning = begun.catch(() => {})
    return begun.then(() => this.heed())
  }

  async #repeat(found: readonly OtherPast[]): Promise<Forked[]> {
    const { set, own, author, context, note, exclusive } = this.#parts
    return exclusive(async () => {
      if (this.#isClosed) return []
      const { publicKey } = context.identity
      for (const { log } of found) this.#suspected.add(log.key.toString('hex'))
      // While the old logs can still be signed.
      const forks = await Promise.all(
        found.map(async ({ log, head, start }) => {
          const signature = start === 0 ? null : await log.signatureAt(start)
          const from =
            signature === null ? { start: 0, signature: Buffer.alloc(0) } : { start, signature }
          return { type: 'forked' as const, core: log.key, head, ...from }
        })
      )
      const kept = set
        .logs()
        .filter((log) => log.kind === 'control' && set.writerOf(log.key) === this.#self)
        .flatMap(({ key }) => set.control.recordsIn(key))
      const records = new Map(
        [...set.control.ownRecords(publicKey), ...kept].map((record) => [
          set.control.idOf(record),
          record
        ])
      )
      const isCurrent = found.some(({ log }) => own.current?.logs.includes(log) === true)
      if (isCurrent || own.current === null) {
        note('this store was put back to an earlier state and written to')
        await own.start([...records.values()])
      } else {
        // It goes on in others already: since it began this and ended in the middle, or for another log.
        const said = new Set(
          set.control.recordsIn(own.current.control.key).map((record) => set.control.idOf(record))
        )
        await own.repeat([...records].flatMap(([id, record]) => (said.has(id) ? [] : [record])))
      }
      await author.repeat()
      return forks
    })
  }

  #sayForks(forks: readonly Forked[]): Promise<void> {
    const { set, own, exclusive } = this.#parts
    return exclusive(async () => {
      if (forks.length === 0) return
      const repeated = await own.require().meta.head()
      await own.say(forks.map((fork) => ({ ...fork, repeated })))
      await set.refresh()
    })
  }

  /** Copies what some versions that are whole here need of a log from a block on into a new log of this host. */
  async #rescue(log: Log, start: number, isOurs: (known: Known) => boolean): Promise<void> {
    const role = this.#parts.set.control.members.roles.get(this.#self)
    if (role === undefined || !mayWrite(role)) return
    const core = log.key.toString('hex')
    const nameOf = ({ id }: Known): string => `${id.toString('hex')} ${core}`
    const wanted = (): Known[] =>
      this.#touched(log, start).filter((known) => isOurs(known) && !this.#stuck.has(nameOf(known)))
    const quiet: Work = { report() {}, note() {}, signal: this.#closed.signal }
    if (wanted().length === 0) return
    await this.#parts.space.rescue(wanted, new Map([[core, start]]), quiet)
    for (const known of wanted()) this.#stuck.add(nameOf(known))
  }

  async #heedAll(): Promise<void> {
    const { set } = this.#parts
    while (this.#isStale && !this.#isClosed) {
      this.#isStale = false
      for (const core of set.control.forkedCores) {
        // What one writer says keeps no other from being heeded.
        await this.#heedOne(Buffer.from(core, 'hex')).catch((error: unknown) => this.#failed(error))
      }
    }
  }

  async #heedOne(core: Buffer): Promise<void> {
    const { set } = this.#parts
    const log = set.get(core)
    const writer = await set.provenWriterOf(core)
    const fork = writer === null ? null : set.control.fork(core.toString('hex'), writer)
    if (log === null || fork === null) return
    await this.#findStrays(log, fork)
    if (await this.#isOther(log, fork)) {
      this.#note(core, true)
      await this.#settle(log, fork)
    }
    const now = set.get(core)
    if (now !== null) await this.#findStrays(now, fork)
    this.#note(core, now !== null && (await this.#isOther(now, fork)))
  }

  #note(core: Buffer, isOther: boolean): void {
    const name = core.toString('hex')
    if (isOther === this.#unsettled.has(name)) return
    if (isOther) this.#unsettled.add(name)
    else this.#unsettled.delete(name)
    this.#parts.onUnsettled()
  }

  /** Whether a log that is here has the wrong past: what belongs to the right one is to come. */
  get isUnsettled(): boolean {
    return this.#unsettled.size > 0
  }

  /** Whether this log is one of them. */
  isUnsettledIn({ key }: Log): boolean {
    return this.#unsettled.has(key.toString('hex'))
  }

  /** Whether a log is here in another past than the one that counts, as far as can be told. */
  async #isOther(log: Log, { id, start, head }: Fork): Promise<boolean> {
    const rewound = this.#rewound.get(id.toString('hex')) ?? 0
    if (log.length <= start || rewound >= MOST_REWINDS) return false
    if (log.length >= head.length) {
      return !(await log.head(head.length)).treeHash.equals(head.treeHash)
    }
    return this.#suspected.has(log.key.toString('hex'))
  }

  async #settle(log: Log, fork: Fork): Promise<void> {
    const { set, own, keyring, exclusive } = this.#parts
    const core = log.key.toString('hex')
    // The home was put back to before it had noticed this.
    if (own.current?.logs.includes(log) === true) {
      await this.#begin([{ log, head: fork.head, start: fork.start }])
      return
    }
    // Who cannot read it cannot tell what would be lost.
    if (keyring.isBlind) return
    const repeated = set.get(fork.repeated.key)
    const isThere = repeated !== null && repeated.length >= fork.repeated.length
    const isAuthors = (await set.provenWriterOf(fork.repeated.key)) === fork.author
    if (!isThere || !isAuthors || !repeated.has(0, fork.repeated.length)) return
    if (log.kind !== 'data') {
      // There may be a past that its writer has never seen.
      if (!(await set.isSaidElsewhere(log, fork.start))) return
    } else {
      // What its author had of this past is elsewhere by now: the rest nobody else may have.
      await this.#rescue(log, fork.start, ({ id }) => this.#isOnlyIn(id, log, fork.start))
      // They are elsewhere, and are still to come.
      if (this.#touched(log, fork.start).length > 0) return
    }
    await exclusive(async () => {
      if (this.#isClosed || this.#parts.isLent()) return
      const name = fork.id.toString('hex')
      this.#rewound.set(name, (this.#rewound.get(name) ?? 0) + 1)
      this.#suspected.delete(core)
      await set.rewind(log, fork.start, fork.signature)
    })
  }

  /** Versions that are whole here, and would not be without what only this past of a log has. */
  #touched(log: Log, start: number): Known[] {
    const { history } = this.#parts.set
    return history.list().filter((known) => {
      const whole = history
        .placements(known.id)
        .filter(({ heads }) => this.#parts.availability.hasBlocksIn(known, heads))
      return whole.length > 0 && whole.every((placement) => isIn(placement, log, start))
    })
  }

  /** Whether a version is said to be nowhere but in this past of a log. */
  #isOnlyIn(id: Buffer, log: Log, start: number): boolean {
    return this.#parts.set.history.placements(id).every((placement) => isIn(placement, log, start))
  }

  /** Notes which states that versions name are not of the past that is here. */
  async #findStrays(log: Log, { start, head: end }: Fork): Promise<void> {
    const { set } = this.#parts
    const strays = new Set(set.history.strays)
    for (const { id } of set.history.all()) {
      for (const { heads } of set.history.placements(id)) {
        for (const head of heads) {
          if (!head.key.equals(log.key) || head.length <= start) continue
          if (head.length > log.length) {
            // The past that counts is here and is not that long, or not yet: then it is looked at again.
            if (log.length >= end.length) strays.add(stateName(head))
            continue
          }
          const here = await log.head(head.length).catch(() => null)
          if (here?.treeHash.equals(head.treeHash) === true) strays.delete(stateName(head))
          else if (here !== null) strays.add(stateName(head))
        }
      }
    }
    set.history.strays = strays
  }
}

/** Whether a version of which that is a place needs a log from a block on. */
function isIn({ heads }: Placement, log: Log, start: number): boolean {
  return heads.some(({ key, length }) => key.equals(log.key) && length > start)
}
