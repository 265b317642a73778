import { setTimeout } from 'node:timers/promises'
import type { Answerer } from '../answerer.js'
import { ParcelError } from '../errors.js'
import type { LeaseAnswer, Question } from '../format/recipe.js'
import type { Work } from '../progress.js'
import { mayWrite } from './control.js'
import { electorate, forced, orNothing, type Lease } from './leases.js'
import type { LogSet } from './log-set.js'
import type { OwnLogs } from './own-logs.js'

const POLL = 50
/** So long the holder is looked for before others are asked to vote, ms. */
const SEEK = 2_000
/** So long votes may take to arrive, ms; then others may have voted for somebody else. */
const ROUND = 3_000

interface Parts {
  set: LogSet
  own: OwnLogs
  /** In hex. */
  self: string
  answerers: () => readonly Answerer[]
  /** Throws REVOKED, FORBIDDEN when this host must not make versions. */
  requireWriter: () => void
  exclusive: <T>(work: () => Promise<T>) => Promise<T>
}

/** Gets leases for this host, and gives them to others. */
export class LeaseKeeper {
  readonly #parts: Parts
  /** Whether its machine runs here or is being started, or its folder has what no version has. */
  isBusy: () => Promise<boolean> = async () => false

  constructor(parts: Parts) {
    this.#parts = parts
  }

  /** null when nobody needs one. */
  get lease(): Lease | null {
    const { lease } = this.#parts.set.control
    return lease?.holder === null ? null : lease
  }

  get isHere(): boolean {
    return this.lease?.holder === this.#parts.self
  }

  /** Throws LEASE_HELD when another host has the lease. */
  requireHere(): void {
    if (this.lease !== null && !this.isHere) throw this.#held('only that host can do this')
  }

  /** Of a version that is made here now: the lease that this host had last; 0: nobody needs one. */
  get epoch(): number {
    if (this.lease === null) return 0
    return this.isHere ? this.lease.number : this.#parts.set.control.lastClaimFor(this.#parts.self)
  }

  /** From now on nobody runs it without a lease, and this host has the first. */
  async begin(): Promise<void> {
    if (this.lease === null) await this.#say(this.#parts.self)
  }

  /** From now on nobody needs one. Throws LEASE_HELD when this host does not have it. */
  async end(): Promise<void> {
    if (this.lease === null) return
    this.requireHere()
    await this.#say(null)
  }

  /** Throws LEASE_HELD when this host does not have it, or uses it. */
  async handOver(host: string): Promise<void> {
    this.requireHere()
    if (await this.isBusy()) throw this.#held('it is in use here: suspend it first')
    await this.#say(host)
  }

  /**
   * Gets the lease: from its holder, or from a majority when that is not found. `isForced`: takes it at
   * once, whoever has it. Throws LEASE_HELD after `timeout` ms, or when the holder runs the machine.
   */
  async take(
    { timeout, isForced = false }: { timeout: number; isForced?: boolean },
    work: Work
  ): Promise<void> {
    const { set, self, requireWriter, exclusive } = this.#parts
    requireWriter()
    // Somebody may be about to get it from here.
    await exclusive(async () => {})
    const began = performance.now()
    for (;;) {
      work.signal.throwIfAborted()
      await set.refresh()
      const { lease } = this
      if (lease === null || lease.holder === self) return
      const waited = performance.now() - began
      if (isForced) {
        await this.#say(self, { isForced: true })
        return
      }
      work.report({ step: 'asking for the lease', done: 0, total: 0, unit: 'blocks' })
      if (await this.#askHolder(lease, work)) return
      if (waited > SEEK && (await this.#askAll(lease, work))) return
      if (waited > timeout) throw this.#unreachable(lease)
      await setTimeout(POLL + Math.random() * POLL, undefined, { signal: work.signal })
    }
  }

  /** Answers another host that wants the lease. */
  answer(question: Question & { kind: 'lease' }, host: string): Promise<LeaseAnswer> {
    const { set, self, exclusive } = this.#parts
    return exclusive(async () => {
      const { lease } = this
      const { roles } = set.control.members
      const role = roles.get(host)
      if (lease === null || role === undefined || !mayWrite(role)) return 'refused'
      if (lease.holder === host) return 'given'
      if (lease.holder === self) {
        if (await this.isBusy()) return 'running'
        await this.#append(host, { version: this.#head() })
        return 'given'
      }
      const isReachable = this.#parts.answerers().some((each) => each.host === lease.holder)
      const isFree = question.number > Math.max(lease.number, set.control.votedUpTo(self))
      const isVoter = electorate(roles).voters.has(self)
      if (!question.isVote || isReachable || !isFree || !isVoter) return 'refused'
      await this.#append(host, question)
      return 'given'
    })
  }

  /** Whether the holder has given it. */
  async #askHolder(lease: Lease, work: Work): Promise<boolean> {
    const { answerers, set } = this.#parts
    const holder = answerers().find(({ host }) => host === lease.holder)
    if (holder === undefined) return false
    const number = set.control.nextLease
    const answer = await holder.lease({
      kind: 'lease',
      number,
      isVote: false,
      version: this.#head()
    })
    if (answer === 'running')
      throw this.#held(
        'it is in use there, and has to be suspended there first; --force takes the lease, and what is made there is a second head then'
      )
    return answer === 'given' && (await this.#comes(work))
  }

  /** Whether a majority has voted for this host. */
  async #askAll(lease: Lease, work: Work): Promise<boolean> {
    const { answerers, set, self } = this.#parts
    const { voters, majority } = electorate(set.control.members.roles)
    const others = answerers().filter(({ host }) => voters.has(host) && host !== lease.holder)
    // A vote that cannot be enough would only be in the way of another host's.
    if (others.length + 1 < majority || !voters.has(self)) return false
    const number = set.control.nextLease
    const version = this.#head()
    await this.#say(self, { number, version })
    const question = { kind: 'lease', number, isVote: true, version } as const
    const answers = await Promise.all(others.map((each) => each.lease(question)))
    const given = answers.filter((answer) => answer === 'given').length
    return given + 1 >= majority && (await this.#comes(work))
  }

  /** Whether the records by which it is this host's arrive. */
  async #comes(work: Work): Promise<boolean> {
    for (const began = performance.now(); performance.now() - began < ROUND;) {
      await this.#parts.set.refresh()
      if (this.isHere) return true
      await setTimeout(POLL, undefined, { signal: work.signal })
    }
    return false
  }

  #say(
    holder: string | null,
    { isForced = false, ...how }: { isForced?: boolean; number?: number; version?: Buffer } = {}
  ): Promise<void> {
    this.#parts.requireWriter()
    return this.#parts.exclusive(() =>
      this.#append(holder, { version: this.#head(), ...how, isForced })
    )
  }

  async #append(
    holder: string | null,
    {
      number = this.#parts.set.control.nextLease,
      version,
      isForced = false
    }: { number?: number; version: Buffer; isForced?: boolean }
  ): Promise<void> {
    const { own, set } = this.#parts
    const body = { type: 'lease', number, holder: orNothing(holder), version } as const
    await own.say([body], isForced ? forced() : [])
    await set.refresh()
  }

  /** What its holder goes on from: the newest version that was made under the lease, or before there was any. */
  #head(): Buffer {
    const { history } = this.#parts.set
    const heads = history.heads()
    const head = heads.find((known) => !history.isLapsed(known)) ?? heads[0]
    return head?.id ?? orNothing(null)
  }

  #held(why: string): ParcelError {
    const { holder } = this.lease ?? { holder: null }
    const name = holder === null ? 'nobody' : this.#parts.set.nameOf(holder)
    return new ParcelError('LEASE_HELD', `the lease is ${name}'s: ${why}`)
  }

  #unreachable(lease: Lease): ParcelError {
    const { voters, majority } = electorate(this.#parts.set.control.members.roles)
    const votes = `${majority} of ${voters.size} hosts that may run it`
    const name = this.#parts.set.nameOf(lease.holder ?? '')
    return new ParcelError(
      'LEASE_HELD',
      `the lease is ${name}'s, which does not answer: bring it online, or ${votes} to vote; ` +
        '--force takes it, and what is made there is a second head then'
    )
  }
}
