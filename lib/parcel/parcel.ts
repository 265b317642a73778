import { ParcelError } from '../errors.js'
import type { MemberRole } from '../format/control-record.js'
import type { EpochKeys } from '../format/epoch-keys.js'
import type { SignedRecord } from '../format/wire.js'
import { randomBytes } from '../keys/identity.js'
import { Keyring } from '../keys/keyring.js'
import type { Log } from '../log/log.js'
import { Admission } from './members/admission.js'
import { Answers } from './answers.js'
import { Author } from './commit/author.js'
import { Availability } from './availability.js'
import { Checking } from './space/checking.js'
import type { ParcelContext } from './context.js'
import { authorOf, Control, mayWrite, signGenesis } from './members/control.js'
import { Epochs } from './members/epochs.js'
import { Faults } from './fetch/faults.js'
import { Hoard } from './fetch/hoard.js'
import { Forks } from './logs/forks.js'
import { History, type Known } from './history.js'
import {
  announcementsOf,
  announcementText,
  epochKeysOf,
  epochText,
  newState,
  noteRollback,
  removeState,
  type LocalState
} from './local-state.js'
import { Lending } from './fetch/lending.js'
import { LeaseKeeper } from './members/lease-keeper.js'
import { LogSet } from './logs/log-set.js'
import { MissingRecords } from './members/missing-records.js'
import { OwnLogs, PUT_BACK } from './logs/own-logs.js'
import { OwnRecords } from './logs/own-records.js'
import type { Block } from './space/verify.js'
import type { Said } from './logs/said-by-hosts.js'
import { SavedState } from './saved-state.js'
import { Settings } from './settings.js'
import { Space } from './space/space.js'
import { Synthesis } from './fetch/synthesis.js'
import { WorkingFolder } from './working-folder.js'
import { Peers } from './members/peers.js'
import { VersionFiles } from './checkout/version-files.js'

/** A machine that has said that it runs, and was heard so lately, may still run. */
const READER_DAYS = 7

/**
 * A parcel on this host: its logs and everyone else's, its versions, its members. Owns the parts
 * and the one queue in which anything appends to this host's logs or changes its folder.
 */
export class Parcel {
  readonly id: Buffer
  readonly keyring: Keyring
  readonly history: History
  readonly control: Control
  readonly availability: Availability
  readonly hoard: Hoard
  readonly synthesis: Synthesis
  readonly faults: Faults
  readonly folder: WorkingFolder
  readonly peers: Peers
  readonly files: VersionFiles
  readonly admission: Admission
  readonly says: OwnRecords
  readonly author: Author
  readonly space: Space
  readonly answers: Answers
  readonly checking: Checking
  readonly lending: Lending
  readonly leases: LeaseKeeper
  readonly settings: Settings
  readonly forks: Forks
  readonly #context: ParcelContext
  readonly #set: LogSet
  readonly #saved: SavedState
  readonly #own: OwnLogs
  readonly #epochs: Epochs
  readonly #missing: MissingRecords
  readonly #listeners = new Set<() => void>()
  #busy: Promise<unknown> = Promise.resolve()
  #isClosed = false

  private constructor(context: ParcelContext, state: LocalState) {
    this.#context = context
    this.id = Buffer.from(state.parcel, 'hex')
    this.control = new Control(this.id, state.inviter)
    this.history = new History(this.id, {
      // Its own count for itself also while it does not know, again, that it is a member.
      counts: (author, ...where) =>
        this.control.countsVersion(author, ...where) || (author === this.#self && this.#isUnknown),
      standing: (heads) => this.availability.standing(heads),
      lease: () => this.control.leases.current,
      self: this.#self
    })
    this.keyring = new Keyring(this.id, epochKeysOf(state))
    for (const record of announcementsOf(state)) this.control.add(record)
    const { id: parcel, control, history, keyring } = this
    this.#set = new LogSet({ parcel, control, history, keyring }, context, {
      onChange: () => {
        this.#changed()
        this.#missing.ask()
        this.forks.heed()
        this.hoard.heed()
        // Somebody may have gone on from what this host is without.
        void this.#inBackground(this.space.heed())
      },
      onMembers: () => this.#heedMembers(),
      onWhole: (log) => void this.#inBackground(this.#mirrored(log)),
      onMissing: (log, blocks) => this.synthesis.fill(log, blocks),
      onRollback: () => this.#rolledBack(),
      onOtherPast: (log) => this.forks.suspect(log),
      isLetGo: (core) => this.space.isLetGo(core),
      carriesTo: () => this.#saved.value.carriesTo,
      onAbandoned: (cores) => void this.#inBackground(this.space.abandon(cores))
    })
    this.synthesis = new Synthesis(this.#set, keyring, context.pool, context.lookaside)
    context.lookaside.add(this.#set)
    this.faults = new Faults(this.#set, context.lookaside, () => this.synthesis.answerers())
    this.#saved = new SavedState(state, context, control)
    this.settings = new Settings({
      saved: this.#saved,
      hasLease: () => this.leases.lease !== null,
      onChange: () => this.#changed()
    })
    this.hoard = new Hoard({
      set: this.#set,
      history,
      saved: this.#saved,
      isBlind: () => keyring.isBlind,
      isAllNeeded: () => this.forks.isUnsettled,
      areFitting: (heads) => this.availability.areFitting(heads),
      onWhole: () => void this.#inBackground(this.#wholeHere())
    })
    this.availability = new Availability(this.#set, this.hoard)
    this.#own = new OwnLogs(context, keyring, this.#set, this.#saved)
    this.folder = new WorkingFolder(this.#saved, this.#own, history)
    this.peers = new Peers({
      parcel,
      control,
      keyring,
      set: this.#set,
      own: this.#own,
      saved: this.#saved,
      clock: context.clock,
      self: this.#self,
      onHeard: () => void this.forks.ask(),
      onChange: () => this.#changed()
    })
    this.#missing = new MissingRecords({
      control,
      answerers: () => this.synthesis.answerers(),
      keep: (records) => this.says.keep(records)
    })
    this.says = new OwnRecords({
      context,
      set: this.#set,
      own: this.#own,
      keyring,
      availability: this.availability,
      isKeeping: () => this.#saved.value.carriesTo.length === 0,
      isLeaving: (version) => this.space.isLeaving(version),
      exclusive: (work) => this.#exclusive(work)
    })
    this.author = new Author({
      parcel,
      driver: () => this.driver,
      context,
      set: this.#set,
      own: this.#own,
      folder: this.folder,
      faults: this.faults,
      requireWriter: () => this.requireWriter(),
      requireLease: () => this.leases.requireHere(),
      leaseEpoch: () => this.leases.epoch,
      exclusive: (work) => this.#exclusive(work),
      onMade: (known) => this.#signFor(known)
    })
    this.files = new VersionFiles({
      parcel,
      context,
      set: this.#set,
      folder: this.folder,
      author: this.author,
      name: () => this.name,
      isOurs: (known) => this.#isOurs(known),
      exclusive: (work) => this.#exclusive(work)
    })
    this.leases = new LeaseKeeper({
      set: this.#set,
      own: this.#own,
      self: this.#self,
      answerers: () => this.synthesis.answerers(),
      requireWriter: () => this.requireWriter(),
      isUnsure: () => this.isLost || this.rollbacks.length > 0 || this.#own.isBehind,
      exclusive: (work) => this.#exclusive(work)
    })
    this.space = new Space({
      context,
      set: this.#set,
      own: this.#own,
      saved: this.#saved,
      availability: this.availability,
      answerers: () => this.synthesis.answerers(),
      pinned: () => this.#pinned(),
      isLent: () => this.lending.isLent,
      readers: () => this.#readers(),
      mayWrite: () => this.role !== null && mayWrite(this.role),
      keyring,
      exclusive: (work) => this.#exclusive(work),
      onChange: () => this.#changed()
    })
    this.forks = new Forks({
      context,
      set: this.#set,
      own: this.#own,
      author: this.author,
      space: this.space,
      keyring,
      availability: this.availability,
      answerers: () => this.synthesis.answerers(),
      onRollback: () => this.#rolledBack(),
      onUnsettled: () => {
        this.hoard.heed()
        this.#changed()
      },
      note: (why) => this.#noteRollback(why),
      isLent: () => this.lending.isLent,
      exclusive: (work) => this.#exclusive(work)
    })
    this.answers = new Answers(this.#set, this.space, this.leases)
    this.lending = new Lending(this.#set, this.faults)
    this.checking = new Checking({
      set: this.#set,
      own: this.#own,
      pool: context.pool,
      goOnWithout: (lost) => this.#goOnWithout(lost)
    })
    this.#epochs = new Epochs(control, keyring, context.identity)
    this.admission = new Admission({
      set: this.#set,
      own: this.#own,
      epochs: this.#epochs,
      self: this.#self,
      exclusive: (work) => this.#exclusive(work)
    })
  }

  /** A new parcel, owned by this host. */
  static async create(
    context: ParcelContext,
    fields: Pick<LocalState, 'name' | 'driver' | 'path'>
  ): Promise<Parcel> {
    const genesis = signGenesis(context.identity, randomBytes(32), context.clock())
    const keys = { epoch: 0, record: null, epochKey: randomBytes(32), controlKey: randomBytes(32) }
    const parcel = new Parcel(context, newState(genesis.id, fields, keys))
    parcel.control.add(genesis)
    await parcel.#own.start([genesis])
    parcel.hoard.heed()
    return parcel
  }

  /** A parcel of other hosts that this one was let into. */
  static async join(
    context: ParcelContext,
    fields: Pick<LocalState, 'name' | 'driver'> &
      EpochKeys & {
        id: Buffer
        announcements: readonly SignedRecord[]
        carriesTo?: readonly string[]
      }
  ): Promise<Parcel> {
    const { id, name, driver, announcements, carriesTo = [] } = fields
    const state = newState(id, { name, driver, path: null }, fields)
    state.announcements.push(...announcements.map(announcementText))
    state.inviter = announcements[0] === undefined ? null : authorOf(announcements[0])
    state.carriesTo = [...carriesTo]
    const parcel = new Parcel(context, state)
    await parcel.#own.start([])
    parcel.hoard.heed()
    return parcel
  }

  static async load(context: ParcelContext, state: LocalState): Promise<Parcel> {
    const parcel = new Parcel(context, state)
    await parcel.#exclusive(() => parcel.#load())
    parcel.hoard.heed()
    return parcel
  }

  get name(): string {
    return this.#saved.value.name
  }

  get driver(): string {
    return this.#saved.value.driver
  }

  /** When and why this host went on in new logs, as far as the user has not said that it is seen. */
  get rollbacks(): readonly { at: number; why: string }[] {
    return this.#saved.value.rollbacks
  }

  async forgetRollbacks(): Promise<void> {
    this.#saved.value.rollbacks = []
    this.#set.forgetProblems(PUT_BACK)
    await this.#saved.save()
    this.#changed()
  }

  /** Since when another host's machine runs, as that host says, in ms since 1970; null: it does not. */
  runningSince(host: string): number | null {
    return this.#set.running.get(host)?.since ?? null
  }

  /** Hosts, in hex, to which this vault carries what they lack; none: it keeps all that it is given. */
  get carriesTo(): readonly string[] {
    return this.#saved.value.carriesTo
  }

  async setCarriesTo(hosts: readonly string[]): Promise<void> {
    this.#saved.value.carriesTo = [...hosts]
    await this.#saved.save()
    this.hoard.heed()
    if (hosts.length > 0) await this.says.takeBackReceipts()
    await this.#set.refresh()
    if (hosts.length === 0) await this.#wholeHere()
    this.#changed()
  }

  /** What was refused or went wrong, for `status`. */
  get problems(): readonly string[] {
    return this.#set.problems
  }

  /** Set when a host has made a version that this software is too old to read. */
  get newerFormat(): ParcelError | null {
    return this.#set.newerFormat
  }

  /** How a host calls itself; the beginning of its key if it has not said, as no vault can. */
  hostName(host: string): string {
    const isVault = this.control.members.roles.get(host) === 'vault'
    return isVault ? `vault-${host.slice(0, 8)}` : this.#set.nameOf(host)
  }

  /** What this host may do here; null before that is known, or when it is no member any more. */
  get role(): MemberRole | null {
    return this.control.members.roles.get(this.#self) ?? null
  }

  /** Throws REVOKED, FORBIDDEN when this host must not make versions. */
  requireWriter(): void {
    const { role } = this
    if (role === null && this.control.members.revoked.has(this.#self)) {
      throw new ParcelError(
        'REVOKED',
        `this host was shut out of "${this.name}": what it has stays, new versions count for nobody`
      )
    }
    if (role !== null && !mayWrite(role)) {
      throw new ParcelError(
        'FORBIDDEN',
        `this host is a ${role} of "${this.name}": it makes no versions. An owner can let it in as a runner`
      )
    }
  }

  /** Whether nothing of what is here says what this host is in the parcel, or was. */
  get #isUnknown(): boolean {
    return this.role === null && !this.control.members.revoked.has(this.#self)
  }

  get #self(): string {
    return this.#context.identity.publicKey.toString('hex')
  }

  /** Every log of the parcel. */
  logs(): Log[] {
    return this.#set.logs()
  }

  /** Those that are replicated: one that is here with the wrong past would only pass it on. */
  replicated(): Log[] {
    return this.#set.logs().filter((log) => !this.forks.isUnsettledIn(log))
  }

  headIds(): Buffer[] {
    return this.history.heads().map(({ id }) => id)
  }

  /** Takes the keys that come with being let in again. */
  async takeKeys(keys: EpochKeys): Promise<void> {
    if (!this.keyring.add(keys)) return
    this.#saved.value.epochs = this.keyring.list().map(epochText)
    await this.#saved.save()
    await this.#set.refresh()
  }

  /** What a host said of itself last, and what was different before; null when it said nothing. */
  factsOf(host: string): Said | null {
    return this.#set.facts.of(host)
  }

  /** Whether a version's record has arrived. */
  knows(version: Buffer): boolean {
    return this.history.get(version) !== null
  }

  problem(host: string, text: string): void {
    this.#set.problem(host, text)
  }

  /** Whether this host does not know who is a member: it has just come, or has lost its store. */
  get isLost(): boolean {
    return this.control.isBlank
  }

  /** Whether others have been asked for blocks that have not come. */
  get isAwaited(): boolean {
    return this.#set.logs().some((log) => log.kind === 'data' && log.isAwaited)
  }

  /** Whether nothing of it is to come that nobody waits for, but for records. */
  holdBack(isHeldBack: boolean): void {
    this.#set.pace.isHeldBack = isHeldBack
  }

  /** Calls back when versions, members or what is here changed. Returns how to stop. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** What it has signed for it cannot vouch for any more; its own records it still knows. */
  #goOnWithout(lost: readonly Block[]): Promise<void> {
    const current = this.#own.current?.logs ?? []
    const isOwn = (kind: string): boolean =>
      lost.some(({ log }) => log.kind === kind && current.includes(log))
    return this.#exclusive(async () => {
      if (this.#isClosed) return
      const { publicKey } = this.#context.identity
      await this.#own.start(isOwn('control') ? this.control.ownRecords(publicKey) : [])
      if (isOwn('meta')) await this.author.repeat()
      await this.#issueReceipts()
    })
  }

  /** Gives it another name on this host. */
  async rename(name: string): Promise<void> {
    this.#saved.value.name = name
    await this.#saved.save()
    this.#changed()
    // It can wait for a suspend that is under way.
    void this.#inBackground(this.says.recovery(this, { isAgain: true }))
  }

  /** The version of what was mounted and written to, in hex; null: there is none. */
  mountedVersion: () => Promise<string | null> = async () => null

  /** Takes all that this host has of it off the disk, but for its folder. Nobody may use it any more. */
  async remove(): Promise<void> {
    const { lookaside, stateDir } = this.#context
    lookaside.delete(this.#set)
    await this.close()
    // First: without its keys nothing of the rest is of use, should we die in the middle.
    await removeState(stateDir, this.id)
    await this.#set.purge()
    this.#changed()
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await this.checking.close()
    await this.forks.close()
    await this.space.close()
    this.admission.close()
    this.says.close()
    this.#missing.close()
    this.faults.close()
    await this.hoard.close()
    await this.#set.close()
    await this.#busy.catch(() => {})
    // With whom it has met since: without its store it knows only them. What cannot be saved was not needed.
    await this.#saved.save().catch(() => {})
    await this.#saved.close()
  }

  /** One thing at a time appends to this host's logs or changes its folder. */
  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#busy.then(() => this.#leaveLogsOfOthers()).then(work)
    this.#busy = run.catch(() => {})
    return run
  }

  /** What goes wrong with it is no caller's business, but a problem to be shown. */
  #inBackground(work: Promise<unknown>): Promise<unknown> {
    return work.catch((error: unknown) => {
      if (!this.#isClosed) this.#set.problem('', ParcelError.from(error).message)
    })
  }

  /** Other hosts, in hex, whose machine runs, as far as they were heard lately: on demand, perhaps. */
  #readers(): string[] {
    const since = this.#context.clock() - READER_DAYS * 86_400_000
    return [...this.peers.trusted()].filter(
      (host) => this.runningSince(host) !== null && (this.peers.lastSeen(host) ?? 0) > since
    )
  }

  /**
   * Versions that this host goes on from, or that others must be able to: its folder's, that of a mount
   * that was written to, and the heads.
   */
  async #pinned(): Promise<Known[]> {
    const { base } = this.folder
    const mounted = await this.mountedVersion()
    const ids = base === null ? [] : [base, this.history.continued(base)]
    if (mounted !== null) ids.push(Buffer.from(mounted, 'hex'))
    return [...this.history.heads(), ...ids.flatMap((id) => this.history.get(id) ?? [])]
  }

  /** Whether this host has written all that is in a version: others can have been taken over. */
  #isOurs({ id }: Known): boolean {
    return this.history.coresOf(id).every(({ key }) => this.#set.writerOf(key) === this.#self)
  }

  async #load(): Promise<void> {
    const isUsable = await this.#own.open()
    await this.#set.refresh()
    if (!isUsable) await this.#own.start([])
    await this.#own.recoverMove(isUsable)
    await this.space.recover()
    await this.folder.recover()
  }

  #rolledBack(): void {
    void this.#inBackground(this.#exclusive(async () => {}))
  }

  /** Goes on in new logs where others have more of this host's own. */
  async #leaveLogsOfOthers(): Promise<void> {
    if (this.#isClosed || !this.#own.isBehind) return
    try {
      await this.#own.start([])
      this.#noteRollback(PUT_BACK)
      await this.#saved.save()
    } catch (error) {
      // What appends nothing may go on; the rest is refused.
      this.#set.problem('', ParcelError.from(error).message)
    }
  }

  #noteRollback(why: string): void {
    this.#set.problem('', `${why}: it goes on in new logs`)
    noteRollback(this.#saved.value, this.#context.clock(), why)
  }

  /** A mirrored log has no gap: read it, and say which versions are whole here now. */
  async #mirrored(log: Log): Promise<void> {
    await (log.kind === 'data' ? null : this.#set.refresh())
    // More of a version may be here than the hoard has seen come.
    this.hoard.heed()
    await this.#wholeHere()
    this.forks.heed()
  }

  /** All of a version may be here by now: others are told. */
  #wholeHere(): Promise<void> {
    return this.#exclusive(() => this.#issueReceipts())
  }

  /**
   * Signs for a version that was made here. With a part in other hosts' logs, only that says
   * whether all of it is here; of one that is all our own, vaults learn by it, and it can wait.
   */
  async #signFor(known: Known): Promise<void> {
    const isOurs = this.#isOurs(known)
    const signed = isOurs ? this.#exclusive(() => this.#issueReceipts()) : this.#issueReceipts()
    // The version is made: a receipt that cannot be given is no reason to say that it is not.
    const settled = this.#inBackground(signed)
    if (!isOurs) await settled
  }

  async #issueReceipts(): Promise<void> {
    if (await this.says.receipts()) this.#changed()
  }

  /** Who belongs to the parcel has changed: keys may be there, or have to be made. */
  #heedMembers(): void {
    if (this.#epochs.learn()) {
      this.#saved.value.epochs = this.keyring.list().map(epochText)
      this.#saved.save().catch((error: unknown) => {
        this.#set.problem('', ParcelError.from(error).message)
      })
      // What could not be opened until now can be.
      void this.#set.refresh()
    }
    this.admission.heal()
  }

  #changed(): void {
    for (const listener of this.#listeners) listener()
  }
}
