import { setTimeout } from 'node:timers/promises'
import { ParcelError } from '../errors.js'
import type { ControlBody } from '../format/control-record.js'
import type { FileRole } from '../format/file-table.js'
import { encodeMetaRecord } from '../format/meta-record.js'
import type { CoreHead } from '../format/version.js'
import type { SignedRecord } from '../format/wire.js'
import { randomBytes } from '../keys/identity.js'
import { Keyring } from '../keys/keyring.js'
import { CORE_PREFIX } from '../log/chunk-index.js'
import { CoreTable } from '../log/core-table.js'
import type { Log } from '../log/log.js'
import { PackReader } from '../log/pack-reader.js'
import { PackWriter } from '../log/pack-writer.js'
import type { Work } from '../progress.js'
import { commitFolder } from './commit.js'
import { contents } from './contents.js'
import type { ParcelContext } from './context.js'
import { Control, signGenesis } from './control.js'
import { History, signVersion, type Known } from './history.js'
import { Incarnation } from './incarnation.js'
import { newState, saveState, type LocalState } from './local-state.js'
import { LogSet } from './log-set.js'
import { isHalfWritten, materialise, recoverFolder } from './materialise.js'
import type { Skipped } from './walk.js'

export interface CommitRequest {
  path: string
  roles: Readonly<Record<string, FileRole>>
  exclude: (path: string) => boolean
  facts: Record<string, string>
  message: string
  compress: boolean
}

/** Announcements kept to find logs with; the rest are read again from the logs themselves. */
const MAX_KEPT = 1_024

/** A parcel on this host: its logs and everyone else's, its versions, its members. */
export class Parcel {
  readonly id: Buffer
  readonly keyring: Keyring
  readonly history: History
  readonly control: Control
  readonly #context: ParcelContext
  readonly #state: LocalState
  readonly #set: LogSet
  readonly #listeners = new Set<() => void>()
  #own: Incarnation | null = null
  #busy: Promise<unknown> = Promise.resolve()
  #saving: Promise<void> = Promise.resolve()
  #isRollingBack = false
  #isClosed = false

  private constructor(context: ParcelContext, state: LocalState) {
    this.#context = context
    this.#state = state
    this.id = Buffer.from(state.parcel, 'hex')
    this.history = new History(this.id)
    this.control = new Control(this.id)
    this.keyring = new Keyring(
      this.id,
      state.epochs.map(({ epoch, epochKey, controlKey }) => ({
        epoch,
        epochKey: epochKey === null ? null : Buffer.from(epochKey, 'hex'),
        controlKey: Buffer.from(controlKey, 'hex')
      }))
    )
    for (const { bytes, signature } of state.announcements) {
      this.control.add({
        bytes: Buffer.from(bytes, 'base64'),
        signature: Buffer.from(signature, 'hex')
      })
    }
    const { id: parcel, control, history, keyring } = this
    this.#set = new LogSet({ parcel, control, history, keyring }, context, {
      onChange: () => this.#changed(),
      onWhole: (log) => this.#mirrored(log),
      onRollback: (why) => this.#rolledBack(why)
    })
  }

  /** A new parcel, owned by this host. */
  static async create(
    context: ParcelContext,
    fields: Pick<LocalState, 'name' | 'driver' | 'path'>
  ): Promise<Parcel> {
    const genesis = signGenesis(context.identity, randomBytes(32), context.clock())
    const state = newState(genesis.id, fields)
    state.epochs.push({
      epoch: 0,
      epochKey: randomBytes(32).toString('hex'),
      controlKey: randomBytes(32).toString('hex')
    })
    const parcel = new Parcel(context, state)
    parcel.control.add(genesis)
    await parcel.#startIncarnation([genesis])
    return parcel
  }

  /** A parcel of other hosts that this one was let into. */
  static async join(
    context: ParcelContext,
    fields: Pick<LocalState, 'name' | 'driver'> & {
      id: Buffer
      epoch: number
      epochKey: Buffer
      controlKey: Buffer
      announcement: SignedRecord
    }
  ): Promise<Parcel> {
    const { id, name, driver, epoch, epochKey, controlKey, announcement } = fields
    const state = newState(id, { name, driver, path: null })
    state.epochs.push({
      epoch,
      epochKey: epochKey.toString('hex'),
      controlKey: controlKey.toString('hex')
    })
    state.announcements.push(announcementText(announcement))
    const parcel = new Parcel(context, state)
    await parcel.#startIncarnation([])
    return parcel
  }

  static async load(context: ParcelContext, state: LocalState): Promise<Parcel> {
    const parcel = new Parcel(context, state)
    await parcel.#exclusive(() => parcel.#load())
    return parcel
  }

  get name(): string {
    return this.#state.name
  }

  get driver(): string {
    return this.#state.driver
  }

  /** The folder that `suspend` stores; null when this host has none yet. */
  get path(): string | null {
    return this.#state.path
  }

  /** The version that the folder continues; null before the first. */
  get base(): Buffer | null {
    return this.#state.base === null ? null : Buffer.from(this.#state.base, 'hex')
  }

  /** Whether its machine was started since the folder's version was made: the folder has gone on. */
  get isStarted(): boolean {
    return this.#state.isStarted
  }

  async setStarted(): Promise<void> {
    this.#state.isStarted = true
    await this.#save()
  }

  /** What was refused or went wrong, for `status`. */
  get problems(): readonly string[] {
    return this.#set.problems
  }

  /** Set when a host has made a version that this software is too old to read. */
  get newerFormat(): ParcelError | null {
    return this.#set.newerFormat
  }

  /** How a host calls itself; the beginning of its key if it has not said. */
  hostName(host: string): string {
    return this.#set.nameOf(host)
  }

  /** Hosts whose connections are accepted, in hex: members, and whoever invited us. */
  trusted(): Set<string> {
    const members = this.control.members()
    const hosts = members.size > 0 ? new Set(members.keys()) : this.#set.hosts()
    hosts.delete(this.#context.identity.publicKey.toString('hex'))
    return hosts
  }

  isOwner(): boolean {
    return this.control.members().get(this.#context.identity.publicKey.toString('hex')) === 'owner'
  }

  /** Every log of the parcel, for replication. */
  logs(): Log[] {
    return this.#set.logs()
  }

  /** Signed `cores` records of all hosts, to pass on. */
  announcements(): SignedRecord[] {
    return this.control.incarnations().map(({ signed }) => signed)
  }

  /** Where members meet on the DHT. */
  topic(): Buffer {
    return this.keyring.topic()
  }

  headIds(): Buffer[] {
    return this.history.heads().map(({ id }) => id)
  }

  /** Whether a version's record has arrived. */
  knows(version: Buffer): boolean {
    return this.history.get(version) !== null
  }

  problem(host: string, text: string): void {
    this.#set.problem(host, text)
  }

  /** This host's own `cores` record, for a newcomer to begin with. */
  ownAnnouncement(): SignedRecord {
    const own = this.#requireOwn().control.key
    const found = this.control
      .incarnations()
      .find(({ incarnation }) => incarnation.control.equals(own))
    if (found === undefined) throw new ParcelError('FAILED', 'this host has announced no logs')
    return found.signed
  }

  /** Takes in announcements from a peer; only members' `cores` records count. */
  async announce(records: readonly SignedRecord[]): Promise<void> {
    let isNew = false
    for (const record of records) isNew = this.control.addAnnouncement(record) || isNew
    if (isNew) await this.#set.refresh()
  }

  /** Calls back when versions, members or what is here changed. Returns how to stop. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Lets a host in. It becomes known to the others through the control log. */
  async admit(host: Buffer): Promise<void> {
    await this.#exclusive(async () => {
      if (this.control.isMember(host)) return
      await this.#say([{ type: 'member', host, role: 'runner' }])
    })
    this.#changed()
  }

  /**
   * Stores a folder as a new version that continues `base`. When it settles the version is
   * durable; when it fails there is no version.
   */
  commit(request: CommitRequest, work: Work): Promise<{ version: Known; skipped: Skipped[] }> {
    return this.#exclusive(async () => {
      const { version, places, skipped } = await this.#store(request, work)
      const signed = signVersion(this.#context.identity, version)
      const own = this.#requireOwn()
      // The record is the commit point. Should we die right after it, the next start finds it by this.
      const id = signed.id.toString('hex')
      this.#state.pending = { kind: 'commit', version: id, path: request.path }
      await this.#save()
      await own.meta.append([
        [encodeMetaRecord({ type: 'places', places: { ...places, version: signed.id } })],
        [encodeMetaRecord({ type: 'version', ...signed })]
      ])
      await this.#context.store.flush()
      await this.#settled(id, request.path)
      await this.#set.refresh()
      const known = this.history.get(signed.id)
      if (known === null) throw new ParcelError('FAILED', 'the new version cannot be read back')
      return { version: known, skipped }
    })
  }

  /**
   * Writes a version into `dir`, which then is the folder that continues it. `beforeSwap` may
   * still refuse, when everything is written but for the last rename.
   */
  checkOut(
    { id, version }: Known,
    dir: string,
    beforeSwap: () => Promise<void>,
    work: Work
  ): Promise<void> {
    return this.#exclusive(async () => {
      const places = this.history.places(id)
      const cores = new CoreTable(places.cores)
      const source = new PackReader(cores, (key) => this.#openForReading(key))
      await materialise(dir, {
        source,
        contents: () => contents(source, version, places),
        work,
        onItems: (items) =>
          this.#context.index.add(
            this.id,
            items.map(({ id: item, place: { core, block, ordinal } }) => ({
              id: item,
              location: { core: cores.key(core).subarray(0, CORE_PREFIX), block, ordinal }
            }))
          ),
        beforeSwap: async () => {
          await beforeSwap()
          const pending = { kind: 'checkout' as const, version: id.toString('hex'), path: dir }
          this.#state.pending = pending
          await this.#save()
        }
      })
      await this.#settled(id.toString('hex'), dir)
    })
  }

  /** The contents of a version that is here, for comparing a folder with it. */
  contents({ id, version }: Known): ReturnType<typeof contents> {
    const places = this.history.places(id)
    const source = new PackReader(new CoreTable(places.cores), (key) => this.#openForReading(key))
    return contents(source, version, places)
  }

  /** The version that the folder continues. Throws UNREACHABLE when its record is not here. */
  baseVersion(): Known | null {
    if (this.base === null) return null
    const known = this.history.get(this.base)
    if (known !== null) return known
    throw new ParcelError(
      'UNREACHABLE',
      `the version that ${this.path ?? 'the folder'} continues is not here: ` +
        'bring another host of this parcel online'
    )
  }

  /**
   * Waits until all of a version is here, and fails with UNREACHABLE when nothing of it has come
   * for `timeout` ms. What has come stays: the next try goes on from there.
   */
  async fetch(known: Known, { timeout }: { timeout: number }, work: Work): Promise<void> {
    const started = performance.now()
    while (!(await this.isHere(known))) {
      work.signal.throwIfAborted()
      const { here, total } = this.blocksOf(known)
      work.report({ step: 'fetching', done: here, total, unit: 'blocks' })
      if (performance.now() - Math.max(started, this.#set.lastDownload) > timeout) {
        throw this.#unreachable(known)
      }
      await setTimeout(25, undefined, { signal: work.signal })
    }
  }

  /** Waits for a first version, if there are other hosts that may have one. */
  async waitForVersion({
    timeout,
    signal
  }: {
    timeout: number
    signal: AbortSignal
  }): Promise<void> {
    const deadline = performance.now() + timeout
    while (this.history.size === 0 && this.newerFormat === null && this.trusted().size > 0) {
      if (performance.now() > deadline) {
        throw new ParcelError(
          'UNREACHABLE',
          `no version of "${this.name}" has arrived: is another of its hosts online?`
        )
      }
      await setTimeout(25, undefined, { signal })
    }
  }

  /** Whether all of a version is on this host. */
  async isHere({ id, version }: Known): Promise<boolean> {
    if (!this.history.hasPlaces(id)) return false
    for (const head of version.cores) {
      const log = this.#set.get(head.key)
      if (log === null || log.length < head.length) return false
      if (!(await log.has(log.contiguousLength, head.length))) return false
    }
    return true
  }

  /** How many blocks of a version are here and how many there are. */
  blocksOf({ version }: Known): { here: number; total: number } {
    let here = 0
    let total = 0
    for (const head of version.cores) {
      total += head.length
      here += Math.min(this.#set.get(head.key)?.contiguousLength ?? 0, head.length)
    }
    return { here, total }
  }

  /** Hosts that hold all of a version, in hex: its author, and who signed a receipt. */
  holders({ id, version }: Known): Set<string> {
    return new Set(this.control.holders(id)).add(version.author.toString('hex'))
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await this.#set.close()
    await this.#busy.catch(() => {})
    await this.#saving
  }

  /** One thing at a time appends to this host's logs or changes its folder. */
  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#busy.then(work)
    this.#busy = run.catch(() => {})
    return run
  }

  async #load(): Promise<void> {
    const { incarnation, marks } = this.#state
    const isUsable =
      incarnation !== null && !this.#context.isSuspect && (await this.#openOwn(incarnation, marks))
    await this.#set.refresh()
    if (!isUsable) await this.#startIncarnation([])
    const { pending, path } = this.#state
    if (path !== null) await recoverFolder(path)
    if (pending === null) return
    await recoverFolder(pending.path)
    const isDone =
      pending.kind === 'commit'
        ? this.knows(Buffer.from(pending.version, 'hex'))
        : !(await isHalfWritten(pending.path))
    if (isDone) await this.#settled(pending.version, pending.path)
    this.#state.pending = null
    await this.#save()
  }

  /** false: the store lacks what was once durable in these logs, so they are only read from now on. */
  async #openOwn(
    seeds: NonNullable<LocalState['incarnation']>,
    marks: LocalState['marks']
  ): Promise<boolean> {
    const own = await Incarnation.open(this.#context, this.keyring, seeds)
    const isWhole = await own.fits(marks)
    for (const log of own.logs) this.#set.addOwn(log, isWhole)
    if (isWhole) this.#own = own
    else
      this.#set.problem('', 'this store was put back to an earlier state: it goes on in new logs')
    return isWhole
  }

  async #startIncarnation(firstRecords: readonly SignedRecord[]): Promise<void> {
    for (const log of this.#own?.logs ?? []) this.#set.addOwn(log, false)
    const own = await Incarnation.start(this.#context, this.keyring, this.control, firstRecords)
    this.#own = own
    for (const log of own.logs) this.#set.addOwn(log, true)
    this.#state.incarnation = own.seeds
    await this.#saveMarks()
    await this.#set.refresh()
  }

  #rolledBack(why: string): void {
    if (this.#isRollingBack || this.#isClosed) return
    this.#isRollingBack = true
    this.#set.problem('', `${why}: it goes on in new logs`)
    this.#exclusive(() => this.#startIncarnation([]))
      .catch((error: unknown) => this.#set.problem('', ParcelError.from(error).message))
      .finally(() => (this.#isRollingBack = false))
  }

  /** Puts the folder's contents into the log; nothing refers to them yet. */
  async #store(request: CommitRequest, work: Work) {
    const { data } = this.#requireOwn()
    const { index, pool, identity, clock } = this.#context
    // A parent need not be known here; it only helps to store less.
    const parent = this.base === null ? null : this.history.get(this.base)
    const heads = new Map<string, CoreHead>()
    for (const head of parent?.version.cores ?? []) heads.set(prefix(head.key), head)
    const cores = new CoreTable(parent === null ? [] : this.history.places(parent.id).cores)
    const writer = new PackWriter({
      log: data,
      pool,
      parcel: this.id,
      index,
      cores,
      lengthOf: (core) => heads.get(prefix(core))?.length ?? 0,
      compress: request.compress,
      flush: () => this.#context.store.flush()
    })
    const { roles, exclude } = request
    const options = { writer, pool, roles, exclude, work }
    const stored = await commitFolder(request.path, options).catch(async (error: unknown) => {
      // What was appended is durable and will be found by the next try.
      await writer
        .end()
        .then(() => this.#saveMarks())
        .catch(() => {})
      throw error
    })
    heads.set(prefix(data.key), await data.head())
    const version = {
      parcel: this.id,
      author: identity.publicKey,
      parents: this.base === null ? [] : [this.base],
      created: clock(),
      driver: this.driver,
      facts: request.facts,
      table: { size: stored.table.size, root: stored.table.root },
      totals: { files: stored.files, bytes: stored.bytes, stored: writer.stored },
      message: request.message,
      leaseEpoch: 0,
      cores: cores.keys.flatMap((key) => heads.get(prefix(key)) ?? []),
      extensions: []
    }
    const places = { cores: [...cores.keys], table: stored.table.place, roots: stored.roots }
    return { version, places, skipped: stored.skipped }
  }

  #unreachable(known: Known): ParcelError {
    const { here, total } = this.blocksOf(known)
    const holders = [...this.holders(known)].map((host) => this.hostName(host))
    return new ParcelError(
      'UNREACHABLE',
      `${here} of ${total} blocks of this version are here and no host sends the rest: ` +
        `bring one of ${holders.join(', ')} online and do it again`
    )
  }

  /** A mirrored log has no gap: read it, and say which versions are whole here now. */
  #mirrored(log: Log): void {
    const next = log.kind === 'data' ? Promise.resolve() : this.#set.refresh()
    next
      .then(() => this.#exclusive(() => this.#issueReceipts()))
      .catch((error: unknown) => {
        if (!this.#isClosed) this.#set.problem('', ParcelError.from(error).message)
      })
  }

  async #issueReceipts(): Promise<void> {
    if (this.#own === null || this.#isClosed) return
    const own = this.#context.identity.publicKey.toString('hex')
    const bodies: ControlBody[] = []
    for (const known of this.history.all()) {
      if (this.holders(known).has(own)) continue
      if (!(await this.isHere(known)) || !(await this.#hasHeads(known))) continue
      const cores = known.version.cores.map((head) => ({ head, blocks: null }))
      bodies.push({ type: 'receipt', version: known.id, cores })
    }
    if (bodies.length === 0) return
    // A receipt says "durable": the blocks are synced before it is written.
    await this.#context.store.flush()
    await this.#say(bodies)
    this.#changed()
  }

  /** Whether our copies are the very logs that the version's author signed for. */
  async #hasHeads({ version }: Known): Promise<boolean> {
    for (const head of version.cores) {
      const here = await this.#set.get(head.key)?.head(head.length)
      if (here?.treeHash.equals(head.treeHash) === true && here.fork === head.fork) continue
      this.#set.problem(
        version.author.toString('hex'),
        'a version names a log that it does not fit'
      )
      return false
    }
    return true
  }

  async #openForReading(key: Buffer): Promise<Log> {
    const log = this.#set.get(key)
    if (log !== null) return log
    throw new ParcelError('UNREACHABLE', 'a log that this version needs is not known here yet')
  }

  #requireOwn(): Incarnation {
    if (this.#own === null) throw new ParcelError('FAILED', 'this host has no logs in this parcel')
    return this.#own
  }

  /** Appends control records and makes them durable. */
  async #say(bodies: readonly ControlBody[]): Promise<void> {
    const own = this.#requireOwn()
    for (const body of bodies) await own.say(this.#context, this.keyring, this.control, body)
    await this.#context.store.flush()
    await this.#saveMarks()
  }

  /** A commit or a check-out is done: the folder continues this version. */
  async #settled(version: string, path: string): Promise<void> {
    this.#state.base = version
    this.#state.path = path
    this.#state.pending = null
    this.#state.isStarted = false
    await this.#saveMarks()
  }

  async #saveMarks(): Promise<void> {
    this.#state.marks = await this.#requireOwn().marks()
    await this.#save()
  }

  /** One write at a time, each with the newest state. */
  #save(): Promise<void> {
    const { stateDir, identity } = this.#context
    this.#state.announcements = this.announcements().slice(-MAX_KEPT).map(announcementText)
    const save = this.#saving.then(() => saveState(stateDir, identity.atRest, this.#state))
    this.#saving = save.catch(() => {})
    return save
  }

  #changed(): void {
    for (const listener of this.#listeners) listener()
  }
}

function announcementText({ bytes, signature }: SignedRecord): LocalState['announcements'][number] {
  return { bytes: bytes.toString('base64'), signature: signature.toString('hex') }
}

function prefix(key: Buffer): string {
  return key.toString('hex', 0, CORE_PREFIX)
}
