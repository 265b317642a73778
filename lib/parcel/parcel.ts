import { setTimeout } from 'node:timers/promises'
import { ParcelError } from '../errors.js'
import type { ReaderPool } from '../chunk/reader-pool.js'
import type { ControlBody } from '../format/control-record.js'
import { decodeCoreHeader, encodeCoreHeader, type CoreKind } from '../format/core-header.js'
import type { FileRole } from '../format/file-table.js'
import { decodeMetaRecord, encodeMetaRecord } from '../format/meta-record.js'
import type { CoreHead } from '../format/version.js'
import type { SignedRecord } from '../format/wire.js'
import { keyPairFrom, randomBytes, type Identity } from '../keys/identity.js'
import { Keyring } from '../keys/keyring.js'
import { CORE_PREFIX, type ChunkIndex } from '../log/chunk-index.js'
import { CoreTable } from '../log/core-table.js'
import type { Log } from '../log/log.js'
import { Mirror } from '../log/mirror.js'
import { PackReader } from '../log/pack-reader.js'
import { PackWriter } from '../log/pack-writer.js'
import type { Store } from '../log/store.js'
import type { Work } from '../progress.js'
import { commitFolder } from './commit.js'
import { contents } from './contents.js'
import { Control, decodeSigned, encodeSigned, signControl, signGenesis } from './control.js'
import { History, signVersion, type Known } from './history.js'
import { saveState, type LocalState } from './local-state.js'
import { materialise, recoverFolder } from './materialise.js'
import type { Skipped } from './walk.js'

/** What a host lends to each of its parcels. */
export interface ParcelContext {
  store: Store
  index: ChunkIndex
  pool: ReaderPool
  identity: Identity
  hostName: string
  /** Folder of the sealed local states. */
  stateDir: string
  clock: () => number
  /** Called for each block that goes to or comes from a peer. */
  onTraffic: () => void
}

interface OpenLog {
  log: Log
  host: string
  /** The next block to read records from. */
  cursor: number
  stop: () => void
}

/** A parcel on this host: its logs and everyone else's, its versions, its members. */
export class Parcel {
  readonly id: Buffer
  readonly keyring: Keyring
  readonly history: History
  readonly control: Control
  /** What was refused in other hosts' logs, newest last; for `status`. */
  readonly problems: string[] = []
  /** Display names of hosts by key in hex, as they call themselves. */
  readonly hostNames = new Map<string, string>()
  readonly #context: ParcelContext
  #state: LocalState
  readonly #logs = new Map<string, OpenLog>()
  readonly #listeners = new Set<() => void>()
  #own: { control: Log; meta: Log; data: Log } | null = null
  #busy: Promise<unknown> = Promise.resolve()
  #refreshing: Promise<void> | null = null
  #saving: Promise<void> = Promise.resolve()
  #isStale = false
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
    await parcel.#startIncarnation([encodeSigned(genesis)])
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
    await parcel.#openAnnounced()
    await parcel.#startIncarnation([])
    return parcel
  }

  static async load(context: ParcelContext, state: LocalState): Promise<Parcel> {
    const parcel = new Parcel(context, state)
    await parcel.#openOwn()
    await parcel.#openAnnounced()
    await parcel.refresh()
    await parcel.#checkRollback()
    if (state.path !== null) await recoverFolder(state.path)
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

  /** Hosts whose connections are accepted, in hex: members, and whoever invited us. */
  trusted(): Set<string> {
    const hosts = new Set(this.control.members().keys())
    for (const { host } of this.#logs.values()) hosts.add(host)
    hosts.delete(this.#context.identity.publicKey.toString('hex'))
    return hosts
  }

  /** Every log of the parcel, for replication. */
  logs(): Log[] {
    return [...this.#logs.values()].map(({ log }) => log)
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

  /** This host's own `cores` record, for a newcomer to begin with. */
  ownAnnouncement(): SignedRecord {
    const own = this.#requireOwn().control.key
    const found = this.control
      .incarnations()
      .find(({ incarnation }) => incarnation.control.equals(own))
    if (found === undefined) throw new ParcelError('FAILED', 'this host has announced no logs')
    return found.signed
  }

  /** Takes in announcements from a peer; only members' count. */
  async announce(records: readonly SignedRecord[]): Promise<void> {
    let isNew = false
    for (const record of records) isNew = this.control.add(record) || isNew
    if (isNew) await this.refresh()
  }

  /** Calls back when versions, members or what is here changed. Returns how to stop. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Lets a host in. It becomes known to the others through the control log. */
  async admit(host: Buffer): Promise<void> {
    if (this.control.isMember(host)) return
    await this.#exclusive(async () => {
      await this.#appendControl({ type: 'member', host, role: 'runner' })
      await this.#context.store.flush()
      await this.#saveMarks()
    })
    this.#changed()
  }

  /**
   * Stores the folder as a new version that continues `base`. When it settles the version is
   * durable; when it fails there is no version.
   */
  commit(
    options: {
      path: string
      roles: Readonly<Record<string, FileRole>>
      exclude: (path: string) => boolean
      facts: Record<string, string>
      message: string
      compress: boolean
    },
    work: Work
  ): Promise<{ version: Known; skipped: Skipped[] }> {
    return this.#exclusive(async () => {
      const own = this.#requireOwn()
      const { store, index, pool, identity, clock } = this.#context
      const parent = this.base === null ? null : this.history.get(this.base)
      const known = new Map<string, CoreHead>()
      for (const head of parent?.version.cores ?? []) known.set(prefix(head.key), head)
      const table = parent === null ? [] : this.history.places(parent.id).cores
      const cores = new CoreTable(table)
      const writer = new PackWriter({
        log: own.data,
        parcel: this.id,
        index,
        cores,
        lengthOf: (core) => known.get(prefix(core))?.length ?? 0,
        compress: options.compress
      })
      const stored = await commitFolder(options.path, {
        writer,
        pool,
        roles: options.roles,
        exclude: options.exclude,
        work
      }).catch(async (error: unknown) => {
        await writer.end().catch(() => {})
        throw error
      })
      const ownHead = await own.data.head()
      known.set(prefix(ownHead.key), ownHead)
      const heads = cores.keys.flatMap((key) => known.get(prefix(key)) ?? [])
      const signed = signVersion(identity, {
        parcel: this.id,
        author: identity.publicKey,
        parents: parent === null ? [] : [parent.id],
        created: clock(),
        driver: this.driver,
        facts: options.facts,
        table: { size: stored.table.size, root: stored.table.root },
        totals: { files: stored.files, bytes: stored.bytes, stored: writer.stored },
        message: options.message,
        leaseEpoch: 0,
        cores: heads,
        extensions: []
      })
      const places = {
        version: signed.id,
        cores: [...cores.keys],
        table: stored.table.place,
        roots: stored.roots
      }
      await own.meta.append([
        [encodeMetaRecord({ type: 'places', places })],
        [encodeMetaRecord({ type: 'version', ...signed })]
      ])
      await store.flush()
      this.#state.base = signed.id.toString('hex')
      this.#state.path = options.path
      await this.#saveMarks()
      await this.refresh()
      const version = this.history.get(signed.id)
      if (version === null) throw new ParcelError('FAILED', 'the new version cannot be read back')
      return { version, skipped: stored.skipped }
    })
  }

  /**
   * Waits until all of a version is here, and fails with UNREACHABLE when nothing of it has come
   * for `timeout` ms. What has come stays: the next try goes on from there.
   */
  async fetch(known: Known, { timeout }: { timeout: number }, work: Work): Promise<void> {
    const { signal } = work
    const blocks = this.blocksOf(known)
    let here = blocks.here
    let last = performance.now()
    const stops = this.logs().map((log) =>
      log.onDownload(() => {
        last = performance.now()
        here++
        const total = Math.max(blocks.total, here)
        work.report({ step: 'fetching', done: here, total, unit: 'blocks' })
      })
    )
    try {
      while (!(await this.isHere(known))) {
        signal.throwIfAborted()
        if (performance.now() - last > timeout) throw this.#unreachable(known)
        await setTimeout(25, undefined, { signal })
      }
    } catch (error) {
      throw ParcelError.from(error, `"${this.name}" was not resumed`)
    } finally {
      for (const stop of stops) stop()
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
    while (this.history.size === 0 && this.trusted().size > 0) {
      if (performance.now() > deadline) {
        throw new ParcelError(
          'UNREACHABLE',
          `no version of "${this.name}" has arrived: is another of its hosts online?`
        )
      }
      await setTimeout(25, undefined, { signal })
    }
  }

  #unreachable(known: Known): ParcelError {
    const { here, total } = this.blocksOf(known)
    const holders = [...this.holders(known)].map(
      (host) => this.hostNames.get(host) ?? host.slice(0, 8)
    )
    return new ParcelError(
      'UNREACHABLE',
      `${here} of ${total} blocks of this version are here and no host sends the rest: ` +
        `bring one of ${holders.join(', ')} online and do it again`
    )
  }

  /** Writes a version into `dir`, which then is the folder that continues it. */
  checkOut({ id, version }: Known, dir: string, work: Work): Promise<void> {
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
            items.map(({ id: item, place }) => ({
              id: item,
              location: {
                core: cores.key(place.core).subarray(0, CORE_PREFIX),
                block: place.block,
                ordinal: place.ordinal
              }
            }))
          )
      })
      this.#state.path = dir
      this.#state.base = id.toString('hex')
      await this.#save()
    })
  }

  /** The contents of a version that is here, for comparing a folder with it. */
  contents({ id, version }: Known): ReturnType<typeof contents> {
    const places = this.history.places(id)
    const source = new PackReader(new CoreTable(places.cores), (key) => this.#openForReading(key))
    return contents(source, version, places)
  }

  /** Whether all of a version is on this host. */
  async isHere({ id, version }: Known): Promise<boolean> {
    try {
      this.history.places(id)
    } catch {
      return false
    }
    for (const head of version.cores) {
      const open = this.#logs.get(head.key.toString('hex'))
      if (open === undefined || open.log.length < head.length) return false
      if (!(await open.log.has(open.log.contiguousLength, head.length))) return false
    }
    return true
  }

  /** How many blocks of a version are here and how many there are. */
  blocksOf({ version }: Known): { here: number; total: number } {
    let here = 0
    let total = 0
    for (const head of version.cores) {
      total += head.length
      const log = this.#logs.get(head.key.toString('hex'))?.log
      here += Math.min(log?.contiguousLength ?? 0, head.length)
    }
    return { here, total }
  }

  /** Hosts that hold all of a version, in hex: its author, and who signed a receipt. */
  holders({ id, version }: Known): Set<string> {
    return this.control.holders(id).add(version.author.toString('hex'))
  }

  /** Reads what is new in all logs. */
  async refresh(): Promise<void> {
    this.#isStale = true
    if (this.#refreshing !== null) return this.#refreshing
    this.#refreshing = this.#refresh().finally(() => (this.#refreshing = null))
    return this.#refreshing
  }

  async close(): Promise<void> {
    this.#isClosed = true
    for (const { stop } of this.#logs.values()) stop()
    await this.#busy.catch(() => {})
    await this.#refreshing?.catch(() => {})
    await this.#saving
  }

  async rename(name: string): Promise<void> {
    this.#state.name = name
    await this.#save()
  }

  /** One thing at a time appends to this host's logs or changes its folder. */
  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#busy.then(work)
    this.#busy = run.catch(() => {})
    return run
  }

  async #refresh(): Promise<void> {
    while (this.#isStale && !this.#isClosed) {
      this.#isStale = false
      let grew = false
      for (const open of this.#logs.values()) {
        if (open.log.kind !== 'data') grew = (await this.#readRecords(open)) || grew
      }
      grew = (await this.#openAnnounced()) || grew
      if (grew) {
        this.#isStale = true
        this.#changed()
      }
    }
  }

  async #readRecords(open: OpenLog): Promise<boolean> {
    const from = open.cursor
    while (open.cursor < open.log.length && (await open.log.has(open.cursor))) {
      const index = open.cursor++
      try {
        const body = await open.log.read(index)
        if (index === 0) this.#checkHeader(body, open.log.kind)
        else if (open.log.kind === 'control') this.control.add(decodeSigned(body))
        else this.#takeMeta(body, open.host)
      } catch (error) {
        this.#problem(open.host, ParcelError.from(error).message)
      }
    }
    return open.cursor > from
  }

  #checkHeader(body: Buffer, kind: CoreKind): void {
    const header = decodeCoreHeader(body)
    if (header.kind !== kind || !header.parcel.equals(this.id)) {
      throw new ParcelError('INTEGRITY', `a ${kind} log says it is something else`)
    }
  }

  #takeMeta(body: Buffer, host: string): void {
    const record = decodeMetaRecord(body)
    if (record.type === 'places') this.history.addPlaces(record.places)
    if (record.type === 'name') this.hostNames.set(host, record.name)
    if (record.type !== 'version') return
    // A version counts only in the log of its author, which is the only one that he can write.
    this.history.addVersion(record.bytes, record.signature, Buffer.from(host, 'hex'))
  }

  #problem(host: string, text: string): void {
    const line = `${this.hostNames.get(host) ?? host.slice(0, 8)}: ${text}`
    if (!this.problems.includes(line)) this.problems.push(line)
    if (this.problems.length > 100) this.problems.shift()
  }

  /** Opens the logs of every announced incarnation that is not open yet. */
  async #openAnnounced(): Promise<boolean> {
    for (const { bytes, signature } of this.#state.announcements) {
      const record = {
        bytes: Buffer.from(bytes, 'base64'),
        signature: Buffer.from(signature, 'hex')
      }
      this.control.add(record)
    }
    const known = new Set(this.#state.announcements.map(({ signature }) => signature))
    let grew = false
    let isAnnounced = false
    for (const { host, incarnation, signed } of this.control.incarnations()) {
      const isKnown = known.has(signed.signature.toString('hex'))
      if (!isKnown) this.#state.announcements.push(announcementText(signed))
      isAnnounced ||= !isKnown
      const { control, meta, data } = incarnation
      const keys = [['control', control] as const, ['meta', meta] as const]
      for (const [kind, key] of [...keys, ...data.map((each) => ['data', each] as const)]) {
        if (this.#logs.has(key.toString('hex'))) continue
        const log = await this.#context.store.mirror(kind, key, this.keyring)
        this.#attach(log, host.toString('hex'), true)
        grew = true
      }
    }
    if (isAnnounced) await this.#save()
    return grew
  }

  #attach(log: Log, host: string, isMirrored: boolean): void {
    const changed = (): void => {
      this.refresh().catch(() => {})
    }
    const stopListening = log.onAppend(changed)
    const stopTraffic = log.onTraffic(this.#context.onTraffic)
    const mirror = isMirrored ? new Mirror(log, () => this.#mirrored(log)) : null
    const stop = (): void => {
      stopListening()
      stopTraffic()
      mirror?.close()
    }
    this.#logs.set(log.key.toString('hex'), { log, host, cursor: 0, stop })
  }

  /** A mirrored log has no gap: read it, or say which versions are whole here now. */
  #mirrored(log: Log): void {
    const next = log.kind === 'data' ? Promise.resolve() : this.refresh()
    next
      .then(() => this.#exclusive(() => this.#issueReceipts()))
      .catch((error: unknown) => {
        if (!this.#isClosed) this.#problem('here', ParcelError.from(error).message)
      })
  }

  async #issueReceipts(): Promise<void> {
    if (this.#own === null || this.#isClosed) return
    const own = this.#context.identity.publicKey
    const bodies: ControlBody[] = []
    for (const known of this.history.list()) {
      if (known.version.author.equals(own)) continue
      if (this.control.holders(known.id).has(own.toString('hex'))) continue
      if (!(await this.isHere(known)) || !(await this.#hasHeads(known))) continue
      const cores = known.version.cores.map((head) => ({ head, blocks: null }))
      bodies.push({ type: 'receipt', version: known.id, cores })
    }
    if (bodies.length === 0) return
    // A receipt says "durable": the blocks are synced before it is written.
    await this.#context.store.flush()
    for (const body of bodies) await this.#appendControl(body)
    await this.#context.store.flush()
    await this.#saveMarks()
    this.#changed()
  }

  /** Whether our copies are the very logs that the version's author signed for. */
  async #hasHeads({ version }: Known): Promise<boolean> {
    for (const head of version.cores) {
      const log = this.#logs.get(head.key.toString('hex'))?.log
      const here = await log?.head(head.length)
      if (here?.treeHash.equals(head.treeHash) !== true || here.fork !== head.fork) {
        this.#problem(version.author.toString('hex'), 'a version names a log that it does not fit')
        return false
      }
    }
    return true
  }

  async #openForReading(key: Buffer): Promise<Log> {
    const open = this.#logs.get(key.toString('hex'))
    if (open === undefined) {
      throw new ParcelError('UNREACHABLE', 'a log that this version needs is not known here yet')
    }
    return open.log
  }

  async #openOwn(): Promise<void> {
    const { incarnation } = this.#state
    if (incarnation === null) return
    const host = this.#context.identity.publicKey.toString('hex')
    const open = async (kind: CoreKind): Promise<Log> => {
      const keyPair = keyPairFrom(Buffer.from(incarnation[kind], 'hex'))
      const log = await this.#context.store.own(kind, keyPair, this.keyring)
      this.#attach(log, host, false)
      return log
    }
    this.#own = {
      control: await open('control'),
      meta: await open('meta'),
      data: await open('data')
    }
  }

  #requireOwn(): { control: Log; meta: Log; data: Log } {
    if (this.#own === null) throw new ParcelError('FAILED', 'this host has no logs in this parcel')
    return this.#own
  }

  /** Three new cores, with key pairs that no log has used before. */
  async #startIncarnation(firstRecords: Buffer[]): Promise<void> {
    const id = randomBytes(16)
    const seeds = { control: randomBytes(32), meta: randomBytes(32), data: randomBytes(32) }
    this.#state.incarnation = {
      id: id.toString('hex'),
      control: seeds.control.toString('hex'),
      meta: seeds.meta.toString('hex'),
      data: seeds.data.toString('hex')
    }
    this.#state.marks = []
    await this.#save()
    await this.#openOwn()
    const own = this.#requireOwn()
    for (const log of [own.control, own.meta, own.data]) {
      await log.append([[encodeCoreHeader({ kind: log.kind, parcel: this.id, incarnation: id })]])
    }
    if (firstRecords.length > 0) await own.control.append(firstRecords.map((record) => [record]))
    const incarnation = { id, control: own.control.key, meta: own.meta.key, data: [own.data.key] }
    await this.#appendControl({ type: 'cores', incarnation })
    await own.meta.append([[encodeMetaRecord({ type: 'name', name: this.#context.hostName })]])
    await this.#context.store.flush()
    await this.refresh()
    await this.#saveMarks()
  }

  async #appendControl(body: ControlBody): Promise<void> {
    const { identity, clock } = this.#context
    const record = signControl(identity, {
      parcel: this.id,
      sequence: this.control.count(identity.publicKey),
      epoch: this.keyring.current.epoch,
      parents: this.control.heads.slice(0, 64),
      created: clock(),
      body
    })
    this.control.add(record)
    await this.#requireOwn().control.append([[encodeSigned(record)]])
  }

  /**
   * A store that is behind what was once durable was put back from a copy. Appending to it would
   * fork its logs, so it goes on in a new incarnation.
   */
  async #checkRollback(): Promise<void> {
    for (const { core, length, treeHash } of this.#state.marks) {
      const log = this.#logs.get(core)?.log
      const isBehind = log === undefined || log.length < length
      const here = isBehind ? null : await log.head(length)
      if (here?.treeHash.toString('hex') === treeHash) continue
      this.#problem('here', 'this store was put back to an earlier state: it goes on in a new log')
      for (const own of [this.#own?.control, this.#own?.meta, this.#own?.data]) {
        const name = own?.key.toString('hex') ?? ''
        this.#logs.get(name)?.stop()
        this.#logs.delete(name)
      }
      await this.#startIncarnation([])
      return
    }
  }

  async #saveMarks(): Promise<void> {
    const own = this.#requireOwn()
    const heads = await Promise.all([own.control, own.meta, own.data].map((log) => log.head()))
    this.#state.marks = heads.map(({ key, length, treeHash }) => ({
      core: key.toString('hex'),
      length,
      treeHash: treeHash.toString('hex')
    }))
    await this.#save()
  }

  /** One write at a time, each with the newest state. */
  #save(): Promise<void> {
    const { stateDir, identity } = this.#context
    const save = this.#saving.then(() => saveState(stateDir, identity.atRest, this.#state))
    this.#saving = save.catch(() => {})
    return save
  }

  #changed(): void {
    for (const listener of this.#listeners) listener()
  }
}

function newState(id: Buffer, fields: Pick<LocalState, 'name' | 'driver' | 'path'>): LocalState {
  return {
    format: 1,
    parcel: id.toString('hex'),
    ...fields,
    epochs: [],
    incarnation: null,
    base: null,
    marks: [],
    announcements: []
  }
}

function announcementText({ bytes, signature }: SignedRecord): LocalState['announcements'][number] {
  return { bytes: bytes.toString('base64'), signature: signature.toString('hex') }
}

function prefix(key: Buffer): string {
  return key.toString('hex', 0, CORE_PREFIX)
}
