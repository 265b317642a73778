import type { Answerer } from '../answerer.js'
import { ParcelError } from '../errors.js'
import { MAX_ASKED } from '../format/recipe.js'
import type { SignedState } from '../format/signed-state.js'
import type { CoreHead } from '../format/version.js'
import type { Keyring } from '../keys/keyring.js'
import { hashesWithin } from '../log/signed-state.js'
import type { Log } from '../log/log.js'
import type { Work } from '../progress.js'
import type { Author } from './author.js'
import type { Availability } from './availability.js'
import type { ParcelContext } from './context.js'
import { mayWrite, type Fork } from './control.js'
import type { Known, Placement } from './history.js'
import { stateName, type LogSet } from './log-set.js'
import type { OwnLogs } from './own-logs.js'
import type { Space } from './space.js'

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
  onRollback: (why: string) => void
  /** Notes that this host goes on in new logs. */
  note: (why: string) => void
  /** Whether somebody reads a version here, by places as they are. */
  isLent: () => boolean
  /** Whether there are logs here with the wrong past has changed. */
  onUnsettled: () => void
  /** One thing at a time appends to this host's logs. */
  exclusive: <T>(work: () => Promise<T>) => Promise<T>
}

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
    if (this.#parts.set.writerOf(log.key) !== this.#self) {
      this.#suspected.add(log.key.toString('hex'))
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
          this.#parts.onRollback('others have more of its logs than this store')
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
    const here = (await log.head(Math.min(length, state.length))).treeHash
    if (state.length <= length ? here.equals(treeHash) : here.equals(state.asked)) {
      return state.length > length ? 'ahead' : null
    }
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

  /** Goes on in new logs, in which all that this host has said stands once more, and says which past counts. */
  #begin(found: readonly OtherPast[]): Promise<void> {
    const { set, own, author, context, note, exclusive } = this.#parts
    return exclusive(async () => {
      if (this.#isClosed) return
      const { publicKey } = context.identity
      for (const { log } of found) this.#suspected.add(log.key.toString('hex'))
      // While the old logs can still be signed.
      const signed = await Promise.all(
        found.map(async ({ log, head, start }) => {
          const signature = start === 0 ? null : await log.signatureAt(start)
          return { core: log.key, head, start: signature === null ? 0 : start, signature }
        })
      )
      note('this store was put back to an earlier state and written to')
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
      await own.start([...records.values()])
      await author.repeat()
      const repeated = await own.require().meta.head()
      const none = Buffer.alloc(0)
      await own.say(
        signed.map(({ signature, ...fork }) => {
          return { type: 'forked', ...fork, signature: signature ?? none, repeated }
        })
      )
      await set.refresh()
    }).then(() => this.heed())
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
    const { set, own, space, keyring, exclusive } = this.#parts
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
      const nameOf = ({ id }: Known): string => `${id.toString('hex')} ${core}`
      const touched = (): Known[] => this.#touched(log, fork)
      const role = set.control.members.roles.get(this.#self)
      if (role !== undefined && mayWrite(role)) {
        const isRescued = ({ version }: Known): boolean =>
          fork.author === this.#self || version.author.toString('hex') !== fork.author
        const wanted = (): Known[] =>
          touched().filter((known) => isRescued(known) && !this.#stuck.has(nameOf(known)))
        const quiet: Work = { report() {}, note() {}, signal: this.#closed.signal }
        if (wanted().length > 0) {
          await space.rescue(wanted, new Map([[core, fork.start]]), quiet)
          for (const known of wanted()) this.#stuck.add(nameOf(known))
        }
      }
      // Others are about to say where those are now.
      if (touched().length > 0) return
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
  #touched(log: Log, { start }: Fork): Known[] {
    const { history } = this.#parts.set
    const isIn = ({ heads }: Placement): boolean =>
      heads.some(({ key, length }) => key.equals(log.key) && length > start)
    return history.list().filter(({ id }) => {
      const whole = history
        .placements(id)
        .filter(({ heads }) => this.#parts.availability.hasCores(heads))
      return whole.length > 0 && whole.every(isIn)
    })
  }

  /** Notes which states that versions name are not of the past that is here. */
  async #findStrays(log: Log, { start }: Fork): Promise<void> {
    const { set } = this.#parts
    const strays = new Set(set.strays)
    for (const { id } of set.history.all()) {
      for (const { heads } of set.history.placements(id)) {
        for (const head of heads) {
          if (!head.key.equals(log.key) || head.length <= start || head.length > log.length)
            continue
          const here = await log.head(head.length).catch(() => null)
          if (here?.treeHash.equals(head.treeHash) === true) strays.delete(stateName(head))
          else if (here !== null) strays.add(stateName(head))
        }
      }
    }
    set.strays = strays
  }
}
