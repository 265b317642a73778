import { setTimeout } from 'node:timers/promises'
import type { Answerer } from '../../answerer.js'
import { ParcelError } from '../../errors.js'
import { leaseExtensions, MAX_LEASE_HEADS } from '../../format/lease.js'
import type { LeaseAnswer, Question } from '../../format/recipe.js'
import type { Work } from '../../progress.js'
import { mayWrite } from './control.js'
import { electorate, orNothing, type Lease } from './leases.js'
import type { LogSet } from '../logs/log-set.js'
import type { OwnLogs } from '../logs/own-logs.js'

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
  /** Whether this host may not know all that it has said: its store was put back, or it has just come. */
  isUnsure: () => boolean
  exclusive: <T>(work: () => Promise<T>) => Promise<T>
}

/** When a lease is taken that nobody gives: when its holder is not found, or whatever it says. */
export type Force = 'never' | 'absent' | 'always'

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
    const { current } = this.#parts.set.control.leases
    return current?.holder === null ? null : current
  }

  get isHere(): boolean {
    return this.lease?.holder === this.#parts.self
  }

  /** Throws LEASE_HELD when another host has the lease. */
  requireHere(): void {
    if (this.lease !== null && !this.isHere) throw this.#held('only that host can do this')
  }

  /** Of a version that is made here now: the lease that this host had last; 0: it had none, or nobody needs one. */
  get epoch(): number {
    return this.lease === null ? 0 : this.#parts.set.control.leases.lastOf(this.#parts.self)
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
   * Gets the lease: from its holder, or from a majority when that is not found; by `force` from nobody,
   * when the holder is not found or whatever it says. Throws LEASE_HELD after `timeout` ms, or when the
   * holder runs the machine.
   */
  async take(
    { timeout, force = 'never' }: { timeout: number; force?: Force },
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
      work.report({ step: 'asking for the lease', done: 0, total: 0, unit: 'blocks' })
      const answer = await this.#askHolder(lease, work)
      if (answer === 'given') return
      const patience = Math.min(SEEK, timeout)
      const isGone = answer === 'absent' && waited >= patience
      if ((force !== 'never' && isGone) || (force === 'always' && answer !== 'absent')) {
        await this.#say(self, { isForced: true })
        return
      }
      if (answer === 'running') {
        throw this.#held(
          'it is in use there, and has to be suspended there first; ' +
            "'hyperparcel lease --force' takes it, and what is made there is a second head then"
        )
      }
      if (isGone && (await this.#askAll(lease, work))) return
      if (waited > timeout) throw this.#unreachable(lease)
      await setTimeout(POLL + Math.random() * POLL, undefined, { signal: work.signal })
    }
  }

  /** Answers another host that wants the lease. */
  answer(question: Question & { kind: 'lease' }, host: string): Promise<LeaseAnswer> {
    const { set, self, exclusive, isUnsure } = this.#parts
    return exclusive(async () => {
      const { lease } = this
      const { roles } = set.control.members
      const role = roles.get(host)
      if (lease === null || role === undefined || !mayWrite(role) || isUnsure()) return 'refused'
      if (lease.holder === host) return 'given'
      if (lease.holder === self) {
        if (await this.isBusy()) return 'running'
        await this.#append(host, { heads: this.#heads() })
        return 'given'
      }
      if (!this.#mayVote(question, lease)) return 'refused'
      await this.#append(host, question)
      return 'given'
    })
  }

  /** Whether this host can say that a lease is another's, whose holder is not found. */
  #mayVote({ number, heads, voters }: Question & { kind: 'lease' }, lease: Lease): boolean {
    const { set, self, answerers } = this.#parts
    const { control, history } = set
    const own = electorate(control.members.roles).voters
    const isSame =
      own.length === voters.length && voters.every((key, n) => key.toString('hex') === own[n])
    if (!isSame || !own.includes(self)) return false
    // Who can be asked itself is; and of one number nobody has two words.
    if (answerers().some((each) => each.host === lease.holder)) return false
    if (
      number <= Math.max(lease.number, control.leases.votedUpTo(self)) ||
      number > control.leases.next
    )
      return false
    // What would be cut off by it.
    return this.#heads().every((id) => history.isIn(id, heads))
  }

  async #askHolder(
    { holder: of }: Lease,
    work: Work
  ): Promise<'absent' | 'refused' | 'running' | 'given'> {
    const { answerers, set } = this.#parts
    const holder = answerers().find(({ host }) => host === of)
    if (holder === undefined) return 'absent'
    const number = set.control.leases.next
    const answer = await holder.lease({ kind: 'lease', number, heads: this.#heads(), voters: [] })
    if (answer !== 'given') return answer
    return (await this.#comes(work)) ? 'given' : 'refused'
  }

  /** Whether a majority has voted for this host. */
  async #askAll(lease: Lease, work: Work): Promise<boolean> {
    const { answerers, set, self, isUnsure } = this.#parts
    const { voters, majority } = electorate(set.control.members.roles)
    const others = answerers().filter(({ host }) => voters.includes(host) && host !== lease.holder)
    // A vote that cannot be enough would only be in the way of another host's.
    if (others.length + 1 < majority || !voters.includes(self) || isUnsure()) return false
    const number = set.control.leases.next
    if (number <= set.control.leases.votedUpTo(self)) return false
    const question = {
      kind: 'lease',
      number,
      heads: this.#heads(),
      voters: voters.map((key) => Buffer.from(key, 'hex'))
    } as const
    const isSaid = await this.#vote(question)
    if (!isSaid) return false
    const answers = await Promise.all(others.map((each) => each.lease({ ...question })))
    const given = answers.filter((answer) => answer === 'given').length
    return given + 1 >= majority && (await this.#comes(work))
  }

  /** false: by now this host does not know whom it may have voted for. */
  #vote(question: {
    number: number
    heads: readonly Buffer[]
    voters: Buffer[]
  }): Promise<boolean> {
    const { self, requireWriter, exclusive, isUnsure } = this.#parts
    requireWriter()
    return exclusive(async () => {
      if (isUnsure()) return false
      await this.#append(self, question)
      return true
    })
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
    how: { isForced?: boolean; number?: number; heads?: readonly Buffer[]; voters?: Buffer[] } = {}
  ): Promise<void> {
    this.#parts.requireWriter()
    return this.#parts.exclusive(() => this.#append(holder, { heads: this.#heads(), ...how }))
  }

  async #append(
    holder: string | null,
    {
      number = this.#parts.set.control.leases.next,
      heads: [version = orNothing(null), ...heads],
      voters = [],
      isForced = false
    }: { number?: number; heads: readonly Buffer[]; voters?: Buffer[]; isForced?: boolean }
  ): Promise<void> {
    const { own, set } = this.#parts
    const body = { type: 'lease', number, holder: orNothing(holder), version } as const
    await own.say([body], leaseExtensions({ isForced, voters, heads }))
    await set.refresh()
  }

  /** What its holder goes on from: the heads of all branches that are no second heads. */
  #heads(): Buffer[] {
    const { history } = this.#parts.set
    return history
      .heads()
      .filter((known) => !history.isLapsed(known))
      .map(({ id }) => id)
      .toSorted((a, b) => Buffer.compare(a, b))
      .slice(0, MAX_LEASE_HEADS)
  }

  #held(why: string): ParcelError {
    const { holder } = this.lease ?? { holder: null }
    const name = holder === null ? 'nobody' : this.#parts.set.nameOf(holder)
    return new ParcelError('LEASE_HELD', `the lease is ${name}'s: ${why}`)
  }

  #unreachable(lease: Lease): ParcelError {
    const { voters, majority } = electorate(this.#parts.set.control.members.roles)
    const votes = `${majority} of ${voters.length} hosts that may run it`
    const name = this.#parts.set.nameOf(lease.holder ?? '')
    return new ParcelError(
      'LEASE_HELD',
      `the lease is ${name}'s, which does not answer: bring it online, or ${votes} to vote; ` +
        '--force takes it, and what is made there is a second head then'
    )
  }
}
