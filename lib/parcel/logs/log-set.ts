import { ParcelError } from '../../errors.js'
import { decodeCoreHeader, type CoreKind } from '../../format/core-header.js'
import { printable } from '../../format/file-table.js'
import { decodeMetaRecord, type Running } from '../../format/meta-record.js'
import type { Keyring } from '../../keys/keyring.js'
import type { Log } from '../../log/log.js'
import { Mirror } from '../../log/mirror.js'
import { Pace } from '../../log/pace.js'
import type { ParcelContext } from '../context.js'
import { decodeSigned, type Control, type FormerData } from '../members/control.js'
import type { Members } from '../members/membership.js'
import { Drops } from './drops.js'
import { kept } from './kept.js'
import type { OpenLog } from './open-log.js'
import { SaidByHosts } from './said-by-hosts.js'
import { versionId, type History } from '../history.js'

/** More incarnations of one host are not opened: each costs cores, and a hostile member could announce any number. */
const MAX_INCARNATIONS = 256
const MAX_PROBLEMS = 100
/** Records of new versions come within this after the first that is heard of their blocks, ms. */
const SETTLING = 150

interface Callbacks {
  /** This host, a vault, need not keep these `data` logs, in hex. */
  onAbandoned: (cores: ReadonlySet<string>) => void
  /** Whether this host is to be without a `data` log, in hex. */
  isLetGo: (core: string) => boolean
  /** Records or logs were added. */
  onChange: () => void
  /** Who is a member, or the key epoch, has changed. */
  onMembers: () => void
  /** Brings blocks without replication where it can; returns the others. */
  onMissing: (log: Log, blocks: number[]) => Promise<number[]>
  /** Hosts, in hex, to which a vault carries what they lack; none: it keeps all. */
  carriesTo: () => readonly string[]
  /** A log of another host has no gap. */
  onWhole: (log: Log) => void
  /** One of our own logs has blocks that this store did not append: it was rolled back. */
  onRollback: () => void
  /** A peer has, or pretends to have, another past of a log. */
  onOtherPast: (log: Log) => void
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
  readonly pace: Pace
  /** What was refused, newest last; for `status`. */
  readonly problems: string[] = []
  /** How hosts call themselves, by key in hex. */
  readonly hostNames = new Map<string, string>()
  /** What hosts say of themselves. */
  readonly facts: SaidByHosts
  /** What hosts say of their machines, by key in hex. */
  readonly running = new Map<string, Running>()
  /** The last version record that this software is too old to read; null when there is none. */
  newerFormat: ParcelError | null = null
  /** How many wait for a log that is not known here. */
  missingLogs = 0
  /** When a block last came from a peer, by `performance.now`. */
  lastDownload = 0
  readonly #keyring: Keyring
  readonly #context: ParcelContext
  readonly #callbacks: Callbacks
  readonly #logs = new Map<string, OpenLog>()
  /** Cores of `#logs` again, by core and kind: another host says that they are of another kind. */
  readonly #rivals = new Map<string, OpenLog>()
  /** Logs, in hex, that are being taken back. */
  readonly #rewinding = new Set<string>()
  #refreshing: Promise<void> | null = null
  #isStale = false
  #isFilling = false
  readonly #drops: Drops
  #unlockedWith = 0
  /** As they were when versions were judged. */
  #members: Members | null = null
  /** Records of key epochs that were heeded. */
  #epochs = 0
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
    this.facts = new SaidByHosts(options.parcel)
    this.#context = context
    this.#callbacks = callbacks
    this.pace = new Pace(context.down)
    this.#drops = new Drops({
      control: options.control,
      isBlind: () => options.keyring.isBlind,
      isHeaderRead: (open) => this.#isHeaderRead(open),
      carriesTo: callbacks.carriesTo,
      onAbandoned: callbacks.onAbandoned,
      reclaim: () => context.store.reclaim(),
      problem: (host, text) => this.problem(host, text)
    })
  }

  get(key: Buffer): Log | null {
    return this.#logs.get(key.toString('hex'))?.log ?? null
  }

  /** Whether all that members have said is here, a host, in hex, among them, as far as that is known. */
  hasHeard(host: string): boolean {
    if (!this.control.members.roles.has(host)) return false
    const said = [...this.#logs.values()].filter(
      ({ log }) => log.kind === 'control' && log.length > 0
    )
    const isRead = said.every(({ cursor, log }) => cursor === log.length)
    return isRead && said.some((open) => open.host === host)
  }

  /** Whether all that is missing of others' `data` logs comes by itself, or only what `bring` names. */
  get isFilling(): boolean {
    return this.#isFilling
  }

  set isFilling(isFilling: boolean) {
    if (this.#isFilling === isFilling) return
    this.#isFilling = isFilling
    for (const { log, mirror } of this.#all()) if (log.kind === 'data') mirror?.look()
  }

  /** Fetches some blocks of a log, ascending; whether they are here. */
  async bring(key: Buffer, blocks: readonly number[], signal: AbortSignal): Promise<boolean> {
    const open = this.#logs.get(key.toString('hex'))
    if (open === undefined) return false
    if (open.mirror !== null) return open.mirror.bring(blocks, signal)
    return blocks.every((index) => open.log.has(index))
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

  /** Who writes a log, in hex, as its own header says; null: that is not known here. */
  async provenWriterOf(key: Buffer): Promise<string | null> {
    const open = this.#logs.get(key.toString('hex'))
    if (open === undefined || open.claims !== null) return null
    if (!open.isProven && !(await this.#isHeaderRead(open))) return null
    return open.isProven ? open.host : null
  }

  /** Whether all that is said in a log of records from a block on is said in other logs too. */
  async isSaidElsewhere(log: Log, from: number): Promise<boolean> {
    for (let index = Math.max(from, 1); index < log.length; index++) {
      if (!log.has(index)) continue
      try {
        const body = await log.read(index)
        if (log.kind === 'control') {
          if (!this.control.standsBeside(decodeSigned(body), log.key)) return false
          continue
        }
        const record = decodeMetaRecord(body)
        if (record.type !== 'version') continue
        if (!this.history.standsBeside(versionId(record.bytes), log.key)) return false
      } catch (error) {
        // What this software cannot read it cannot miss; of what it has no key for it knows nothing.
        if (ParcelError.from(error).code !== 'INTEGRITY') return false
      }
    }
    return true
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

  /** From now on fetches what an own log lacks. */
  mend(log: Log): void {
    const open = this.#logs.get(log.key.toString('hex'))
    if (open?.log !== log || !log.isOwn || open.isMended) return
    open.isMended = true
    const onWhole = (): void => this.#callbacks.onWhole(log)
    const mirror = new Mirror(log, { onWhole, pace: this.pace })
    open.mirror = mirror
    const { stop } = open
    open.stop = () => {
      stop()
      mirror.close()
    }
  }

  /**
   * Takes a log back to what is before `start`, as its writer has signed it, and fetches what follows from
   * others. Throws INTEGRITY when the signature is wrong.
   */
  async rewind(log: Log, start: number, signature: Buffer): Promise<void> {
    const { store } = this.#context
    const name = log.key.toString('hex')
    await this.#refreshing?.catch(() => {})
    const open = this.#logs.get(name)
    if (open?.log !== log || this.#isClosed) return
    if (start > 0 && !(await log.isSignedAt(start, signature))) {
      throw new ParcelError('INTEGRITY', 'a log cannot be taken back: its signature is wrong')
    }
    open.stop()
    if (start > 0) await log.rewind(start, signature)
    // Nobody reads records of it meanwhile, or opens it.
    this.#rewinding.add(name)
    this.#logs.delete(name)
    try {
      await (start > 0 ? store.release(log) : store.forget(log))
      this.#attach(await store.mirror(log.kind, log.key, this.#keyring), open.host, true)
    } finally {
      this.#rewinding.delete(name)
    }
    const { isProven, claims } = open
    const locked = open.locked.filter((index) => index < start)
    const now = { cursor: Math.min(open.cursor, start), locked, isProven, claims }
    Object.assign(this.#logs.get(name) ?? {}, now)
    await this.refresh()
    this.#callbacks.onChange()
  }

  /** Closes logs and takes them off the disk; its space comes back with `reclaim`. */
  async letGo(cores: ReadonlySet<string>): Promise<void> {
    for (const [name, open] of this.#logs) {
      if (!cores.has(name)) continue
      this.#logs.delete(name)
      open.stop()
      await this.#context.store.forget(open.log)
    }
  }

  /** Reads what is new in all logs; opens what was announced in them. */
  refresh(): Promise<void> {
    this.#isStale = true
    this.#refreshing ??= this.#refresh()
    return this.#refreshing
  }

  /** Problems in whose words this is are over. */
  forgetProblems(text: string): void {
    const left = this.problems.filter((line) => !line.includes(text))
    this.problems.splice(0, this.problems.length, ...left)
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
    for (const { stop } of this.#all()) stop()
    this.pace.close()
    await this.#refreshing?.catch(() => {})
  }

  /** Takes all logs off the disk. It must be closed. */
  async purge(): Promise<void> {
    for (const { log } of this.#rivals.values()) await this.#context.store.release(log)
    for (const { log } of this.#logs.values()) await this.#context.store.forget(log)
    await this.#context.store.reclaim()
  }

  async #refresh(): Promise<void> {
    try {
      while (this.#isStale && !this.#isClosed) {
        this.#isStale = false
        let grew = false
        await this.#unlock()
        for (const open of this.#all()) {
          if (open.log.kind !== 'data') grew = (await this.#readRecords(open)) || grew
          else if (this.#isRival(open)) await this.#isHeaderRead(open)
        }
        grew = this.#settleRivals() || grew
        grew = this.#heedMembers() || grew
        grew = (await this.#openAnnounced()) || grew
        if (await this.#drops.heed(this.#logs)) this.#isStale = true
        if (!grew) continue
        this.#isStale = true
        this.#callbacks.onChange()
      }
    } finally {
      // With no await since the last look at the flag, no wake-up is lost in between.
      this.#refreshing = null
    }
  }

  /** Who is a member decides whose versions count. */
  #heedMembers(): boolean {
    const { members } = this.control
    const epochs = this.control.epochs().length
    if (members === this.#members && epochs === this.#epochs) return false
    if (members !== this.#members) this.history.judge()
    this.#members = members
    this.#epochs = epochs
    this.control.addEarly()
    this.#callbacks.onMembers()
    return true
  }

  async #openAnnounced(): Promise<boolean> {
    const perHost = new Map<string, number>()
    let grew = false
    const former = this.#formerData()
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
        ...incarnation.data.map((key): [CoreKind, Buffer] => ['data', key]),
        ...former.flatMap((each): [CoreKind, Buffer][] =>
          each.host.equals(host) ? [['data', each.key]] : []
        )
      ]
      for (const [kind, key] of cores) {
        const known = this.#logs.get(key.toString('hex'))
        if (known !== undefined && known.claims === name && known.log.kind === kind) {
          // Somebody else had said that it was its own.
          Object.assign(known, { host: name, claims: null, cursor: 0 })
          grew = true
        }
        const isOther = known !== undefined && known.log.kind !== kind && !known.isProven
        const isNew = known === undefined || (isOther && !this.#rivals.has(rivalName(key, kind)))
        if (!isNew || this.#isClosed || this.#rewinding.has(key.toString('hex'))) continue
        if (kind === 'data' && this.#callbacks.isLetGo(key.toString('hex'))) continue
        this.#attach(await this.#context.store.mirror(kind, key, this.#keyring), name, true)
        grew = true
      }
    }
    return grew
  }

  /** `data` cores of before that are not open, and that a version is still in. */
  #formerData(): FormerData[] {
    const closed = this.control
      .formerData()
      .filter(({ key }) => !this.#logs.has(key.toString('hex')))
      .filter(({ key }) => !this.#callbacks.isLetGo(key.toString('hex')))
    if (closed.length === 0) return []
    const named = this.#keyring.isBlind ? this.control.receipts.cores() : this.history.cores()
    return closed.filter(({ key }) => named.has(key.toString('hex')))
  }

  /** Whether it is known from a data log itself who writes it. */
  async #isHeaderRead(open: OpenLog): Promise<boolean> {
    if (open.cursor > 0) return true
    if (!open.log.has(0)) return false
    try {
      this.#readHeader(await open.log.read(0), open)
    } catch (error) {
      const { code, message } = ParcelError.from(error)
      if (code !== 'BAD_KEY') this.problem(open.host, message)
      return false
    }
    open.cursor = 1
    return true
  }

  #attach(log: Log, host: string, isMirrored: boolean): void {
    const { onWhole, onMissing, onRollback, onOtherPast } = this.#callbacks
    const pace = log.kind === 'data' ? this.pace : new Pace()
    // Who cannot read a log cannot say that it is not what it is announced as; control logs alone come always.
    const isBounded = log.kind === 'data' || (log.kind === 'meta' && this.#keyring.isBlind)
    const quota = isBounded ? this.#context.quota : null
    const { identity, sending, downOf, isNear } = this.#context
    log.limitSending(sending)
    log.limitReceiving(downOf)
    log.shareWithNeighbours(identity.publicKey.toString('hex'), isNear)
    const stops = [
      log.onAppend(() => {
        if (!isMirrored && log.isContinuedElsewhere) onRollback()
        this.refresh().catch((error: unknown) => this.#failed(error))
      }),
      log.onConflict(() => onOtherPast(log)),
      log.onTraffic((from, moved) =>
        this.#context.traffic.note(this.parcel.toString('hex'), from, moved)
      ),
      log.onDownload((_, bytes) => {
        this.lastDownload = performance.now()
        quota?.took(bytes)
      })
    ]
    // An own log with gaps has lost blocks on this disk: others may have them.
    const isFetched = isMirrored || log.missing(0, log.length, 1).length > 0
    const isFilling = (): boolean => log.kind !== 'data' || log.isOwn || this.#isFilling
    const settling = log.kind === 'data' && !this.#keyring.isBlind ? SETTLING : 0
    const how = {
      onWhole: () => onWhole(log),
      shortcut: onMissing,
      pace,
      quota,
      isFilling,
      settling
    }
    const mirror = isFetched ? new Mirror(log, how) : null
    const stop = (): void => {
      for (const each of stops) each()
      mirror?.close()
    }
    const open = {
      log,
      host,
      cursor: 0,
      locked: [],
      isProven: false,
      claims: null,
      drops: 0,
      isMended: isFetched,
      mirror,
      stop
    }
    const name = log.key.toString('hex')
    const isRival = isMirrored && this.#logs.has(name) && this.#logs.get(name)?.log !== log
    if (isRival) this.#rivals.set(rivalName(log.key, log.kind), open)
    else this.#logs.set(name, open)
  }

  #all(): OpenLog[] {
    return [...this.#logs.values(), ...this.#rivals.values()]
  }

  #isRival({ log }: OpenLog): boolean {
    return this.#rivals.has(rivalName(log.key, log.kind))
  }

  /** A core is of the kind that its own header says. Whether any was taken for another until now. */
  #settleRivals(): boolean {
    let isChanged = false
    for (const [name, rival] of this.#rivals) {
      const core = rival.log.key.toString('hex')
      const known = this.#logs.get(core)
      if (known?.isProven !== true && !rival.isProven) continue
      this.#rivals.delete(name)
      if (known?.isProven === true) rival.stop()
      else {
        known?.stop()
        this.#logs.set(core, rival)
        isChanged = true
      }
    }
    return isChanged
  }

  #failed(error: unknown): void {
    if (!this.#isClosed) this.problem('', ParcelError.from(error).message)
  }

  async #readRecords(open: OpenLog): Promise<boolean> {
    const from = open.cursor
    const isNext = (): boolean => open.cursor < open.log.length && open.log.has(open.cursor)
    while (!this.#isClosed && open.claims === null && isNext()) {
      const index = open.cursor
      if (!(await this.#readRecord(open, index))) open.locked.push(index)
      open.cursor = index + 1
    }
    return open.cursor > from
  }

  /** Tries again what could not be opened: there are more keys now. */
  async #unlock(): Promise<void> {
    if (this.#unlockedWith === this.#keyring.size) return
    this.#unlockedWith = this.#keyring.size
    for (const open of this.#all()) {
      const locked = open.locked.splice(0)
      for (const index of locked) {
        if (!(await this.#readRecord(open, index))) open.locked.push(index)
      }
    }
  }

  /** false: the key that it was sealed under is not here. */
  async #readRecord(open: OpenLog, index: number): Promise<boolean> {
    try {
      // What follows from it is kept as long as the parcel is open.
      const body = kept(await open.log.read(index))
      if (index === 0) this.#readHeader(body, open)
      else if (open.log.kind === 'control') this.control.add(decodeSigned(body), open.log.key)
      else this.#readMeta(body, open, index)
    } catch (error) {
      const failure = ParcelError.from(error)
      if (failure.code === 'BAD_KEY') return false
      if (failure.code === 'NEWER_FORMAT' && open.log.kind === 'meta') this.newerFormat = failure
      this.problem(open.host, failure.message)
    }
    return true
  }

  /** The header's word counts, not the announcer's: only the writer of a log can have written it. */
  #readHeader(body: Buffer, open: OpenLog): void {
    const header = decodeCoreHeader(body)
    if (header.kind !== open.log.kind || !header.parcel.equals(this.parcel)) {
      throw new ParcelError('INTEGRITY', `a ${open.log.kind} log says that it is something else`)
    }
    const host = header.host.toString('hex')
    open.isProven = true
    if (host === open.host) return
    const { key, kind } = open.log
    const isSaid =
      kind === 'data'
        ? this.control.announcersOf(key).some((by) => by.equals(header.host))
        : this.control
            .incarnations()
            .some(
              ({ host: by, incarnation: { control, meta } }) =>
                by.equals(header.host) && (kind === 'meta' ? meta : control).equals(key)
            )
    if (isSaid) {
      open.host = host
      return
    }
    open.claims = host
    open.isProven = false
    throw new ParcelError('INTEGRITY', 'announced a log that names another host, which has not')
  }

  /** Of one that is no member yet nothing is said: that may be on its way. */
  #refuseVersion(host: string): void {
    const { roles, revoked } = this.control.members
    const role = roles.get(host)
    if (role !== undefined) this.problem(host, `made a version, which a ${role} must not: ignored`)
    else if (revoked.has(host)) this.problem(host, 'made a version after its revocation: ignored')
  }

  #readMeta(body: Buffer, { host, log }: OpenLog, index: number): void {
    const record = decodeMetaRecord(body)
    const author = Buffer.from(host, 'hex')
    const where = { core: log.key, index }
    // A log counts for its writer alone: nobody can speak of another's versions.
    if (record.type === 'places') this.history.addPlaces(record.places, author, where)
    if (record.type === 'moved') this.history.addMoved(record.moved, author, where)
    if (record.type === 'trace') this.history.addTrace(record.trace, author, where)
    if (record.type === 'version') {
      const { id } = this.history.addVersion(record.bytes, record.signature, author, where)
      if (this.history.get(id) === null) this.#refuseVersion(host)
    }
    if (record.type === 'tag') this.history.tags.add(record.tag, host, where)
    if (record.type === 'running') {
      const known = this.running.get(host)
      if ((known?.number ?? -1) < record.running.number) this.running.set(host, record.running)
    }
    if (record.type === 'facts') this.facts.add(host, record)
    if (record.type === 'name') {
      this.hostNames.set(host, printable(Buffer.from(record.name)).slice(0, 64))
    }
  }
}

function rivalName(key: Buffer, kind: CoreKind): string {
  return `${key.toString('hex')} ${kind}`
}
