import { chunkId } from '../chunk/id.js'
import { ParcelError } from '../errors.js'
import type { ControlBody } from '../format/control-record.js'
import { encodePackHeader } from '../format/pack.js'
import {
  encodeFacts,
  encodeMetaRecord,
  type Running,
  type SaidFacts
} from '../format/meta-record.js'
import type { SignedRecord } from '../format/wire.js'
import type { Keyring } from '../keys/keyring.js'
import { NS } from '../keys/namespaces.js'
import type { ParcelContext } from './context.js'
import { encodeSigned } from './control.js'
import { Incarnation } from './incarnation.js'
import { noteRollback } from './local-state.js'
import type { LogSet } from './log-set.js'
import type { SavedState } from './saved-state.js'

export const PUT_BACK = 'this store was put back to an earlier state'

/**
 * What this host writes in a parcel: owns the current incarnation, and the seeds and marks of it
 * in the local state. Only one call at a time may append; the parcel sees to that.
 */
export class OwnLogs {
  readonly #context: ParcelContext
  readonly #keyring: Keyring
  readonly #set: LogSet
  readonly #saved: SavedState
  #current: Incarnation | null = null

  constructor(context: ParcelContext, keyring: Keyring, set: LogSet, saved: SavedState) {
    this.#context = context
    this.#keyring = keyring
    this.#set = set
    this.#saved = saved
  }

  /** null until `open` or `start` has settled. */
  get current(): Incarnation | null {
    return this.#current
  }

  require(): Incarnation {
    if (this.#current !== null) return this.#current
    throw new ParcelError('FAILED', 'this host has no logs in this parcel')
  }

  /** false: the store lacks what was once durable in these logs, so they are only read from now on. */
  async open(): Promise<boolean> {
    const { incarnation: seeds, marks } = this.#saved.value
    if (seeds === null || this.#context.isSuspect) return false
    const own = await Incarnation.open(this.#context, this.#keyring, seeds)
    const isWhole = await own.fits(marks)
    for (const log of own.logs) this.#set.addOwn(log, isWhole)
    if (isWhole) this.#current = own
    else {
      this.#set.problem('', `${PUT_BACK}: it goes on in new logs`)
      noteRollback(this.#saved.value, this.#context.clock(), PUT_BACK)
    }
    return isWhole
  }

  /** Goes on in new logs; those of before are only read from now on. */
  async start(firstRecords: readonly SignedRecord[]): Promise<void> {
    for (const log of this.#current?.logs ?? []) this.#set.addOwn(log, false)
    const { control } = this.#set
    const own = await Incarnation.start(this.#context, this.#keyring, control, firstRecords)
    this.#current = own
    for (const log of own.logs) this.#set.addOwn(log, true)
    this.#saved.value.incarnation = own.seeds
    await this.saveMarks()
    await this.#set.refresh()
  }

  /** This host's own `cores` record, for a newcomer to begin with. */
  announcement(): SignedRecord {
    const own = this.require().control.key
    const found = this.#set.control
      .incarnations()
      .find(({ incarnation }) => incarnation.control.equals(own))
    if (found === undefined) throw new ParcelError('FAILED', 'this host has announced no logs')
    return found.signed
  }

  /** Appends control records and makes them durable. */
  async say(bodies: readonly ControlBody[]): Promise<void> {
    const own = this.require()
    for (const body of bodies) {
      await own.say(this.#context, this.#keyring, this.#set.control, body)
    }
    await this.#context.store.flush()
    await this.saveMarks()
  }

  /** Says, signed, what this host is. */
  async sayFacts(said: SaidFacts): Promise<void> {
    const { identity } = this.#context
    const bytes = encodeFacts(this.#set.parcel, said)
    const signature = identity.sign(NS.factsSignature, bytes)
    await this.require().meta.append([[encodeMetaRecord({ type: 'facts', bytes, signature })]])
    await this.#context.store.flush()
    await this.saveMarks()
  }

  /** Tells people since when this host's machine runs, ms since 1970; null: it does not. */
  async sayRunning(running: Running): Promise<void> {
    await this.require().meta.append([[encodeMetaRecord({ type: 'running', running })]])
    await this.#context.store.flush()
    await this.saveMarks()
  }

  /** Appends a control record of whoever once more, and makes it durable. */
  async repeat(record: SignedRecord): Promise<void> {
    await this.require().control.append([[encodeSigned(record)]])
    await this.#context.store.flush()
    await this.saveMarks()
  }

  /**
   * Gives up the last blocks of the `data` log, from `from` on, which no version names, and gives
   * their space back. Said first: a block that is gone and not said to be is a damaged log.
   */
  async giveBack(from: number): Promise<void> {
    const { data } = this.require()
    const range = { start: from, end: data.length }
    if (range.start >= range.end) return
    // A log's last block cannot be cleared, nor the file on disk that a large one shares with others.
    const last = Buffer.alloc(1)
    const items = [{ id: chunkId(last), length: last.byteLength }]
    await data.append([[encodePackHeader('chunks', 'none', items), last]])
    await this.say([{ type: 'drop', core: data.key, ranges: [range] }])
    await data.drop([range])
    await this.#context.store.reclaim()
  }

  /** Saves the local state with how long the logs are now: all of that must be durable. */
  async saveMarks(): Promise<void> {
    this.#saved.value.marks = await this.require().marks()
    await this.#saved.save()
  }
}
