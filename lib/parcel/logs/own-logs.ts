import { chunkId } from '../../chunk/id.js'
import { ParcelError } from '../../errors.js'
import { decodeControlRecord, type ControlBody } from '../../format/control-record.js'
import { decodeCoreHeader, encodeCoreHeader } from '../../format/core-header.js'
import type { Extension } from '../../format/extension.js'
import { encodePackHeader } from '../../format/pack.js'
import {
  encodeFacts,
  encodeMetaRecord,
  type Running,
  type SaidFacts
} from '../../format/meta-record.js'
import type { SignedRecord } from '../../format/wire.js'
import { keyPairFrom, randomBytes } from '../../keys/identity.js'
import type { Keyring } from '../../keys/keyring.js'
import { ContinuedElsewhere, type Log } from '../../log/log.js'
import { NS } from '../../keys/namespaces.js'
import type { ParcelContext } from '../context.js'
import { encodeSigned } from '../members/control.js'
import { Incarnation } from './incarnation.js'
import { noteRollback } from '../local-state.js'
import type { LogSet } from './log-set.js'
import type { SavedState } from '../saved-state.js'

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

  /** Whether others have more of them: nothing is appended any more, and this host is to go on in new ones. */
  get isBehind(): boolean {
    return this.#current?.logs.some((log) => log.isContinuedElsewhere) === true
  }

  require(): Incarnation {
    if (this.#current !== null) return this.#current
    throw new ParcelError('FAILED', 'this host has no logs in this parcel')
  }

  /** false: the store lacks what was once durable in these logs, so they are only read from now on. */
  async open(): Promise<boolean> {
    const { incarnation: seeds, marks, moving } = this.#saved.value
    // As its own, before a record announces it: else it would be opened as anybody's.
    if (moving !== null) await this.#openData(moving)
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
  async say(bodies: readonly ControlBody[], extensions: readonly Extension[] = []): Promise<void> {
    const own = this.require()
    for (const body of bodies) {
      await own.say(this.#context, this.#keyring, this.#set.control, body, extensions)
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

  /**
   * Appends control records of whoever once more, and makes them durable; but not what this host has signed
   * for in other logs, and would seem to have signed for again.
   */
  async repeat(records: readonly SignedRecord[]): Promise<void> {
    const { control } = this.#set
    const self = this.#context.identity.publicKey
    const blocks = records.flatMap((record) => {
      const said = decodeControlRecord(record.bytes)
      const isHeld = said.author.equals(self) && control.receipts.wouldCount(said)
      return isHeld ? [] : [[encodeSigned(record)]]
    })
    if (blocks.length === 0) return
    await this.require().control.append(blocks)
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
    // What is missing behind the marks is others': these are cleared as soon as it is said.
    await this.#context.store.flush()
    await this.saveMarks()
    await this.say([{ type: 'drop', core: data.key, ranges: [range] }])
    await data.drop([range])
    await this.#context.store.reclaim()
  }

  /** A `data` log into which a prune copies what is needed; what an earlier one left is taken off the disk. */
  async startMove(): Promise<Log> {
    const { id } = this.require().seeds
    const before = this.#saved.value.moving
    if (before !== null) {
      const left = await this.#openData(before)
      await this.#set.letGo(new Set([left.key.toString('hex')]))
    }
    const seed = randomBytes(32).toString('hex')
    Object.assign(this.#saved.value, { moving: seed, isUnreclaimed: true })
    await this.#saved.save()
    const log = await this.#openData(seed)
    const { parcel } = this.#set
    const host = this.#context.identity.publicKey
    const header = { kind: log.kind, parcel, host, incarnation: Buffer.from(id, 'hex') }
    await log.append([[encodeCoreHeader(header)]])
    return log
  }

  /** Throws FAILED when this host went on in other logs since a move began. */
  async requireSameLogs(log: Log): Promise<void> {
    const header = decodeCoreHeader(await log.read(0))
    if (header.incarnation.toString('hex') === this.require().seeds.id) return
    throw new ContinuedElsewhere()
  }

  /**
   * From now on this host writes into the log of a move, and `stays` of before hold things still. `records`
   * say in its `meta` log what is where: they are durable no earlier than that it writes there.
   */
  async endMove(log: Log, stays: readonly Log[], records: readonly Buffer[]): Promise<void> {
    const seed = this.#saved.value.moving
    if (seed === null) throw new ParcelError('FAILED', 'there is no move to end')
    const own = this.require().withData(log, seed)
    await own.say(this.#context, this.#keyring, this.#set.control, {
      type: 'cores',
      incarnation: {
        ...own.keys,
        data: [log.key, ...stays.flatMap(({ key }) => (key.equals(log.key) ? [] : [key]))]
      }
    })
    if (records.length > 0) await own.meta.append(records.map((bytes) => [bytes]))
    await this.#context.store.flush()
    await this.#goOnIn(own)
  }

  /** Takes the log of a move off the disk that came to nothing. */
  async abandonMove(log: Log): Promise<void> {
    await this.#set.letGo(new Set([log.key.toString('hex')]))
    this.#saved.value.moving = null
    await this.#saved.save()
  }

  /**
   * Ends a move that had been announced when this host died. `isUsable` false: it goes on in new logs, and
   * only reads that one.
   */
  async recoverMove(isUsable: boolean): Promise<void> {
    const seed = this.#saved.value.moving
    if (seed === null || this.#current === null) return
    const log = await this.#openData(seed)
    const self = this.#context.identity.publicKey.toString('hex')
    const { control } = this.#set
    const isSaid =
      control.currentData(self).has(log.key.toString('hex')) ||
      control.formerData().some(({ key }) => key.equals(log.key))
    if (!isSaid) await this.abandonMove(log)
    else if (isUsable) await this.#goOnIn(this.#current.withData(log, seed))
    else {
      this.#set.addOwn(log, false)
      this.#saved.value.moving = null
      await this.#saved.save()
    }
  }

  async #goOnIn(own: Incarnation): Promise<void> {
    this.#current = own
    this.#saved.value.incarnation = own.seeds
    this.#saved.value.moving = null
    await this.saveMarks()
  }

  async #openData(seed: string): Promise<Log> {
    const keyPair = keyPairFrom(Buffer.from(seed, 'hex'))
    const log = await this.#context.store.own('data', keyPair, this.#keyring)
    this.#set.addOwn(log, true)
    return log
  }

  /** Saves the local state with how long the logs are now: all of that must be durable. */
  async saveMarks(): Promise<void> {
    this.#saved.value.marks = await this.require().marks()
    await this.#saved.save()
  }
}
