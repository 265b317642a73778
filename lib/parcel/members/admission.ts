import { setTimeout } from 'node:timers/promises'
import { ParcelError } from '../../errors.js'
import { ROLES, type MemberRole } from '../../format/control-record.js'
import type { CoreHead } from '../../format/version.js'
import type { Epochs } from './epochs.js'
import type { LogSet } from '../logs/log-set.js'
import type { OwnLogs } from '../logs/own-logs.js'

/** A wrong epoch is put right after so long, ms, at random: another owner may be about to. */
const PATIENCE = [1_000, 5_000] as const

interface Parts {
  set: LogSet
  own: OwnLogs
  epochs: Epochs
  /** This host, in hex. */
  self: string
  /** One thing at a time appends to this host's logs. */
  exclusive: <T>(work: () => Promise<T>) => Promise<T>
}

/**
 * Lets hosts into a parcel and shuts them out. Only an owner can: what another host says of it is
 * ignored by everyone.
 */
export class Admission {
  readonly #parts: Parts
  /** Epoch records that stand in this host's log under the keys that they give. */
  readonly #repeated = new Set<string>()
  #isHealing = false
  readonly #closed = new AbortController()

  constructor(parts: Parts) {
    this.#parts = parts
  }

  /** Lets a host in. It becomes known to the others through the control log. */
  admit(host: Buffer, role: MemberRole): Promise<void> {
    return this.#parts.exclusive(async () => {
      this.requireOwner('let a host in')
      const { own, set } = this.#parts
      const known = set.control.members.roles.get(host.toString('hex'))
      // Of several roles the highest counts.
      const isHigher = known === undefined || ROLES.indexOf(role) < ROLES.indexOf(known)
      if (isHigher) await own.say([{ type: 'member', host, role }])
      await this.#repeatEpoch()
      await set.refresh()
    })
  }

  /**
   * Ends a host's membership: what it wrote until now stays, what it writes from now on counts for
   * nobody, and the others go on under keys that it is not given.
   */
  revoke(host: string): Promise<void> {
    return this.#parts.exclusive(async () => {
      this.requireOwner('revoke a host')
      const { own, set } = this.#parts
      if (!set.control.members.roles.has(host)) {
        throw new ParcelError(
          'USAGE',
          `${set.nameOf(host)} is no member: see 'hyperparcel members'`
        )
      }
      const { roles } = set.control.members
      const owners = [...roles].filter(([, role]) => role === 'owner')
      if (roles.get(host) === 'owner' && owners.length === 1) {
        throw new ParcelError(
          'USAGE',
          'this is the only owner: without one nobody could be let in or shut out any more'
        )
      }
      await own.say([
        { type: 'revoke', host: Buffer.from(host, 'hex'), cuts: await this.#cuts(host) }
      ])
      await set.refresh()
      if (host !== this.#parts.self) await this.#begin()
    })
  }

  /** Begins a new epoch: from now on everything is sealed under new keys, and meets elsewhere. */
  rotate(): Promise<void> {
    return this.#parts.exclusive(async () => {
      this.requireOwner('begin an epoch')
      await this.#begin()
    })
  }

  /**
   * Begins an epoch where the newest one was given to somebody who is no member any more, or not to
   * everybody who is, or does not lead to another's keys: two owners did things at once, or one died
   * in the middle, or lies.
   */
  heal(): void {
    if (this.#isHealing || !this.#isWrong) return
    this.#isHealing = true
    const [least, most] = PATIENCE
    const signal = this.#closed.signal
    setTimeout(least + Math.random() * (most - least), undefined, { signal, ref: false })
      .then(() =>
        this.#parts.exclusive(async () => {
          if (this.#isWrong) await this.#begin()
        })
      )
      .catch((error: unknown) => {
        if (!signal.aborted) this.#parts.set.problem('', ParcelError.from(error).message)
      })
      .finally(() => (this.#isHealing = false))
  }

  close(): void {
    this.#closed.abort()
  }

  /** Throws FORBIDDEN. */
  requireOwner(what: string): void {
    if (this.#isOwner) return
    throw new ParcelError(
      'FORBIDDEN',
      `only an owner can ${what}: 'hyperparcel members' shows who is one`
    )
  }

  get #isOwner(): boolean {
    return this.#parts.set.control.members.roles.get(this.#parts.self) === 'owner'
  }

  get #isWrong(): boolean {
    const { epochs, set } = this.#parts
    if (!this.#isOwner) return false
    return !set.control.members.isEpochRight || epochs.isBroken || !epochs.leadsToAll
  }

  async #begin(): Promise<void> {
    const { own, set, epochs } = this.#parts
    // Said under the keys until now, which all have; from the next block on, under the new ones.
    await own.say([epochs.begin(set.control.members.roles)])
    await set.refresh()
    await this.#repeatEpoch()
  }

  /** Who comes later has only the newest keys to read with, and finds the others here. */
  async #repeatEpoch(): Promise<void> {
    const { set, own } = this.#parts
    const { epoch } = set.control.members
    if (epoch === null || this.#repeated.has(epoch.record)) return
    const record = set.control.epochs().find(({ id }) => id.toString('hex') === epoch.record)
    if (record === undefined) return
    await own.repeat([record])
    this.#repeated.add(epoch.record)
  }

  /** What of a host's logs counts. */
  async #cuts(host: string): Promise<CoreHead[]> {
    const { set } = this.#parts
    const logs = set.logs().filter((log) => set.writerOf(log.key) === host)
    return Promise.all(logs.map((log) => log.head()))
  }
}
