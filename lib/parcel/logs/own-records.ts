import type { SignedRecord } from '../../format/wire.js'
import type { Keyring } from '../../keys/keyring.js'
import type { Availability } from '../availability.js'
import type { ParcelContext } from '../context.js'
import type { LogSet } from './log-set.js'
import type { OwnLogs } from './own-logs.js'
import { dueReceipts } from '../due-receipts.js'
import { recoveryRecord } from '../members/recovery.js'
import { sameFacts } from './said-by-hosts.js'

interface Parts {
  context: ParcelContext
  set: LogSet
  own: OwnLogs
  keyring: Keyring
  availability: Availability
  /** Whether this host keeps what it has: a vault on its way does not. */
  isKeeping: () => boolean
  /** Whether a version is about to go. */
  isLeaving: (version: Buffer) => boolean
  /** One thing at a time appends to this host's logs. */
  exclusive: <T>(work: () => Promise<T>) => Promise<T>
}

/** What this host tells the others besides its versions: what it is, what it holds, how it could come back. */
export class OwnRecords {
  readonly #parts: Parts
  readonly #self: string
  #isClosed = false

  constructor(parts: Parts) {
    this.#parts = parts
    this.#self = parts.context.identity.publicKey.toString('hex')
  }

  close(): void {
    this.#isClosed = true
  }

  /** Tells the other members of this host, if anything is not as it said before. */
  async facts(facts: Readonly<Record<string, string>>): Promise<void> {
    const { context, set, own, keyring } = this.#parts
    await this.#say(async () => {
      const said = set.facts.of(this.#self)
      const isSame = said !== null && sameFacts(said.facts, facts)
      // A vault has no key to say it with.
      if (isSame || keyring.current.epochKey === null) return
      await own.sayFacts({ created: context.clock(), facts })
      await set.refresh()
    })
  }

  /**
   * Sees to it that this host's 24 words bring it back into the parcel. `isAgain`: it was let in
   * once more, and the keys of before do not lead to those of now.
   */
  async recovery(
    { name, driver }: { name: string; driver: string },
    { isAgain = false } = {}
  ): Promise<void> {
    const { context, set, own, keyring } = this.#parts
    await this.#say(async () => {
      if (set.control.recovery(this.#self) !== null && !isAgain) return
      const fields = { name, driver, epochs: keyring.list() }
      await own.say([recoveryRecord(set.parcel, context.identity, fields)])
    })
  }

  /** Tells the others since when its machine runs here, ms since 1970; null: it does not. */
  async running(since: number | null): Promise<void> {
    const { set, own, keyring } = this.#parts
    const said = (): number | null => set.running.get(this.#self)?.since ?? null
    if (said() === since) return
    await this.#say(async () => {
      if (said() === since || keyring.current.epochKey === null) return
      const number = (set.running.get(this.#self)?.number ?? 0) + 1
      await own.sayRunning({ number, since })
      await set.refresh()
    })
  }

  /** Signs for versions that are whole here by now. Whether there were any. */
  async receipts(): Promise<boolean> {
    const { context, set, own, availability, keyring, isLeaving } = this.#parts
    if (!this.#canSay || !this.#parts.isKeeping()) return false
    const { isBlind } = keyring
    const due = await dueReceipts(set, availability, { self: this.#self, isBlind, isLeaving })
    if (due.length === 0) return false
    // A receipt says "durable": the blocks are synced before it is written.
    await context.store.flush()
    await own.say(due)
    return true
  }

  /** Takes back what it has signed for: it will not keep it. */
  async takeBackReceipts(): Promise<void> {
    const { set, own } = this.#parts
    await this.#say(async () => {
      const versions = [...set.control.receipts.versions()].filter(
        (version) => set.control.receipts.of(version, this.#self).length > 0
      )
      if (versions.length === 0) return
      await own.say(versions.map((version) => ({ type: 'pin', version, pinned: false })))
      await set.refresh()
    })
  }

  /** Keeps records of others that this host will not find in another log again. */
  async keep(records: readonly SignedRecord[]): Promise<void> {
    await this.#say(async () => {
      await this.#parts.own.repeat(records)
    })
    await this.#parts.set.refresh()
  }

  #say(work: () => Promise<void>): Promise<void> {
    return this.#parts.exclusive(async () => {
      if (this.#canSay) await work()
    })
  }

  /** Who was shut out has no key to say anything with. */
  get #canSay(): boolean {
    return !this.#isClosed && this.#parts.own.current !== null && this.#parts.keyring.isCurrent
  }
}
