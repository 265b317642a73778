import { ParcelError } from '../errors.js'
import { decodeCoreHeader, type CoreKind } from '../format/core-header.js'
import { printable } from '../format/file-table.js'
import { decodeMetaRecord } from '../format/meta-record.js'
import type { Keyring } from '../keys/keyring.js'
import type { Log } from '../log/log.js'
import { Mirror } from '../log/mirror.js'
import { Pace } from '../log/pace.js'
import type { ParcelContext } from './context.js'
import { decodeSigned, type Control } from './control.js'
import type { History } from './history.js'

/** More incarnations of one host are not opened: each costs cores, and a hostile member could announce any number. */
const MAX_INCARNATIONS = 256
const MAX_PROBLEMS = 100

interface OpenLog {
  log: Log
  /** Who writes it, in hex: who announced it, then who its header names. */
  host: string
  /** The next block to read records from. */
  cursor: number
  /** How many of its writer's `drop` records have been heeded. */
  drops: number
  stop: () => void
}

interface Callbacks {
  /** Records or logs were added. */
  onChange: () => void
  /** Brings blocks without replication where it can; returns the others. */
  onMissing: (log: Log, blocks: number[]) => Promise<number[]>
  /** A log of another host has no gap. */
  onWhole: (log: Log) => void
  /** One of our own logs has blocks that this store did not append: it was rolled back. */
  onRollback: (why: string) => void
}

/**
 * All logs of a parcel, ours and everybody's. It opens what members announce, mirrors it, and
 * reads the records of `control` and `meta` into the DAG of members and the DAG of versions. A
 * record that is not as it should be is noted and skipped; the rest goes on.
 */
export class LogSet {
  readonly parcel: Buffer
  readonly control: Control
  readonly history: History
  /** Of the mirrors of `data` logs: records are few, and always come at once. */
  readonly pace = new Pace()
  /** What was refused, newest last; for `status`. */
  readonly problems: string[] = []
  /** How hosts call themselves, by key in hex. */
  readonly hostNames = new Map<string, string>()
  /** The last version record that this software is too old to read; null when there is none. */
  newerFormat: ParcelError | null = null
  /** When a block last came from a peer, by `performance.now`. */
  lastDownload = 0
  readonly #keyring: Keyring
  readonly #context: ParcelContext
  readonly #callbacks: Callbacks
  readonly #logs = new Map<string, OpenLog>()
  #refreshing: Promise<void> | null = null
  #isStale = false
  #isClosed = false

  constructor(
    options: { parcel: Buffer; control: Control; history: History; keyring: Keyring },
    context: ParcelContext,
    callbacks: Callbacks
  ) {
    this.parcel = options.parcel
    this.control = options.control
    this.history = options.history
    this.#keyring = options.keyring
    this.#context = context
    this.#callbacks = callbacks
  }

  get(key: Buffer): Log | null {
    return this.#logs.get(key.toString('hex'))?.log ?? null
  }

  logs(): Log[] {
    return [...this.#logs.values()].map(({ log }) => log)
  }

  /** Writers of the logs, in hex. */
  hosts(): Set<string> {
    return new Set([...this.#logs.values()].map(({ host }) => host))
  }

  /** Who writes a log, in hex; null for one that is not known here. */
  writerOf(key: Buffer): string | null {
    return this.#logs.get(key.toString('hex'))?.host ?? null
  }

  nameOf(host: string): string {
    return this.hostNames.get(host) ?? host.slice(0, 8)
  }

  /** Adds a log that this host writes; `isCurrent` false: an earlier one, which others may know better. */
  addOwn(log: Log, isCurrent: boolean): void {
    const name = log.key.toString('hex')
    this.#logs.get(name)?.stop()
    this.#attach(log, this.#context.identity.publicKey.toString('hex'), !isCurrent)
  }

  /** Reads what is new in all logs; opens what was announced in them. */
  refresh(): Promise<void> {
    this.#isStale = true
    this.#refreshing ??= this.#refresh()
    return this.#refreshing
  }

  problem(host: string, text: string): void {
    const line = `${host === '' ? 'here' : this.nameOf(host)}: ${text}`
    if (this.problems.includes(line)) return
    this.problems.push(line)
    if (this.problems.length > MAX_PROBLEMS) this.problems.shift()
    this.#callbacks.onChange()
  }

  async close(): Promise<void> {
    this.#isClosed = true
    for (const { stop } of this.#logs.values()) stop()
    this.pace.close()
    await this.#refreshing?.catch(() => {})
  }

  async #refresh(): Promise<void> {
    try {
      while (this.#isStale && !this.#isClosed) {
        this.#isStale = false
        let grew = false
        for (const open of this.#logs.values()) {
          if (open.log.kind !== 'data') grew = (await this.#readRecords(open)) || grew
        }
        grew = (await this.#openAnnounced()) || grew
        await this.#heedDrops()
        if (!grew) continue
        this.#isStale = true
        this.#callbacks.onChange()
      }
    } finally {
      // With no await since the last look at the flag, no wake-up is lost in between.
      this.#refreshing = null
    }
  }

  async #openAnnounced(): Promise<boolean> {
    const perHost = new Map<string, number>()
    let grew = false
    for (const { host, incarnation } of this.control.incarnations()) {
      const name = host.toString('hex')
      const count = (perHost.get(name) ?? 0) + 1
      perHost.set(name, count)
      if (count > MAX_INCARNATIONS) {
        this.problem(
          name,
          `announced more than ${MAX_INCARNATIONS} sets of logs: the rest is ignored`
        )
        continue
      }
      const cores: [CoreKind, Buffer][] = [
        ['control', incarnation.control],
        ['meta', incarnation.meta],
        ...incarnation.data.map((key): [CoreKind, Buffer] => ['data', key])
      ]
      for (const [kind, key] of cores) {
        if (this.#logs.has(key.toString('hex')) || this.#isClosed) continue
        this.#attach(await this.#context.store.mirror(kind, key, this.#keyring), name, true)
        grew = true
      }
    }
    return grew
  }

  /** What a host's control log says of its data logs, and of nobody else's. */
  async #heedDrops(): Promise<void> {
    for (const [key, open] of this.#logs) {
      if (open.log.kind !== 'data') continue
      const drops = this.control.drops(key)
      if (open.drops === drops.length || !(await this.#isHeaderRead(open))) continue
      for (; open.drops < drops.length; open.drops++) {
        const drop = drops[open.drops]
        if (drop?.author === open.host) await open.log.drop(drop.ranges)
      }
    }
  }

  /** Whether it is known from a data log itself who writes it. */
  async #isHeaderRead(open: OpenLog): Promise<boolean> {
    if (open.cursor > 0) return true
    if (!open.log.has(0)) return false
    try {
      this.#readHeader(await open.log.read(0), open)
    } catch (error) {
      this.problem(open.host, ParcelError.from(error).message)
      return false
    }
    open.cursor = 1
    return true
  }

  #attach(log: Log, host: string, isMirrored: boolean): void {
    const { onWhole, onMissing, onRollback } = this.#callbacks
    const stops = [
      log.onAppend(() => {
        if (!isMirrored && log.isContinuedElsewhere) {
          onRollback('this store was put back to an earlier state')
        }
        this.refresh().catch((error: unknown) => this.#failed(error))
      }),
      log.onConflict(() => {
        this.problem(host, 'its log was forked: two stores wrote one log')
        if (!isMirrored) onRollback('this log was forked by an earlier copy of this store')
      }),
      log.onTraffic(this.#context.onTraffic),
      log.onDownload(() => (this.lastDownload = performance.now()))
    ]
    const pace = log.kind === 'data' ? this.pace : new Pace()
    const mirror = isMirrored ? new Mirror(log, () => onWhole(log), onMissing, pace) : null
    const stop = (): void => {
      for (const each of stops) each()
      mirror?.close()
    }
    this.#logs.set(log.key.toString('hex'), { log, host, cursor: 0, drops: 0, stop })
  }

  #failed(error: unknown): void {
    if (!this.#isClosed) this.problem('', ParcelError.from(error).message)
  }

  async #readRecords(open: OpenLog): Promise<boolean> {
    const from = open.cursor
    while (!this.#isClosed && open.cursor < open.log.length && open.log.has(open.cursor)) {
      const index = open.cursor
      try {
        const body = await open.log.read(index)
        if (index === 0) this.#readHeader(body, open)
        else if (open.log.kind === 'control') this.control.add(decodeSigned(body))
        else this.#readMeta(body, open.host)
      } catch (error) {
        const failure = ParcelError.from(error)
        if (failure.code === 'NEWER_FORMAT' && open.log.kind === 'meta') this.newerFormat = failure
        this.problem(open.host, failure.message)
      }
      open.cursor = index + 1
    }
    return open.cursor > from
  }

  /** The header's word counts, not the announcer's: only the writer of a log can have written it. */
  #readHeader(body: Buffer, open: OpenLog): void {
    const header = decodeCoreHeader(body)
    if (header.kind !== open.log.kind || !header.parcel.equals(this.parcel)) {
      throw new ParcelError('INTEGRITY', `a ${open.log.kind} log says that it is something else`)
    }
    open.host = header.host.toString('hex')
  }

  #readMeta(body: Buffer, host: string): void {
    const record = decodeMetaRecord(body)
    const author = Buffer.from(host, 'hex')
    // A log counts for its writer alone: nobody can speak of another's versions.
    if (record.type === 'places') this.history.addPlaces(record.places, author)
    if (record.type === 'trace') this.history.addTrace(record.trace, author)
    if (record.type === 'version') this.history.addVersion(record.bytes, record.signature, author)
    if (record.type === 'name') {
      this.hostNames.set(host, printable(Buffer.from(record.name)).slice(0, 64))
    }
  }
}
