import { rm } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { Approvals } from './host/approvals.js'
import { WorkerPool } from './chunk/worker-pool.js'
import { describeParcel, describeVersion } from './host/describe.js'
import { Entrance } from './host/entrance.js'
import { ParcelError } from './errors.js'
import { hostFacts } from './host/host-facts.js'
import { homeDir } from './home-dir.js'
import { createHome, openHome, readQuota, writeQuota, type Home } from './home.js'
import type {
  ImagePlace,
  InviteOptions,
  OpenInvite,
  ParcelInfo,
  ResumeOptions,
  ResumeResult,
  SuspendOptions,
  SuspendResult,
  VersionInfo
} from './info.js'
import { InProcess } from './host/in-process.js'
import { ItemServer } from './host/item-server.js'
import { fingerprint } from './keys/words.js'
import { ChunkIndex } from './log/chunk-index.js'
import { Quota } from './log/quota.js'
import { Store } from './log/store.js'
import { memberNamed, requireName } from './names.js'
import { commitMounted } from './host/mounted.js'
import { hasOverlays, readMarker } from './export/image-set.js'
import { homeOverlays, placeOf } from './host/open-images.js'
import type { ParcelContext } from './parcel/context.js'
import { Lookaside } from './parcel/fetch/lookaside.js'
import { readStates, type LocalState } from './parcel/local-state.js'
import { Outside } from './parcel/fetch/outside.js'
import { OrderedWindow } from './ordered-window.js'
import { Parcel } from './parcel/parcel.js'
import { ParcelList } from './host/parcel-list.js'
import { ParcelMachine } from './host/parcel-machine.js'
import { overlaps, requireFolder } from './paths.js'
import { Task, type Work } from './progress.js'
import { chooseVersion, requireSuspended, resume, takeLease } from './host/resume.js'
import { markClosed, markOpen } from './host/run-marker.js'
import { Addresses } from './swarm/addresses.js'
import { parseBootstrap, type Node } from './swarm/dht.js'
import { Checkpoints } from './host/checkpoints.js'
import { NextSite } from './host/next-site.js'
import { Wake } from './host/wake.js'
import { Events } from './host/events.js'
import { Leases } from './host/leases.js'
import { Limits } from './limits/limits.js'
import { pathTo, type PeerInfo } from './peer-status.js'
import { RemoteSuspend } from './host/remote-suspend.js'
import { Rehearsal } from './host/rehearsal.js'
import { Retention } from './host/retention.js'
import { Scrub } from './host/scrub.js'
import { Swarm } from './swarm/swarm.js'
import { Upkeep } from './host/upkeep.js'
import { Traffic } from './traffic.js'
import { Versions } from './host/versions.js'
import { Watch } from './host/watch.js'
import { driverNamed } from './vmm/drivers.js'

export interface HostOptions {
  /** The home folder; default as for the command line. */
  home?: string
  /** 'host:port[,…]' of a private DHT; default HYPERPARCEL_BOOTSTRAP, else the public one. */
  bootstrap?: string
  /** Of the identity, where it has one; default HYPERPARCEL_PASSPHRASE. */
  passphrase?: string
  /** The home is a folder that travels: nothing on this machine is served from it but blocks. */
  isRemovable?: boolean
  /** Milliseconds since 1970; for people and invites, it decides nothing else. */
  clock?: () => number
}

/** So long an image server may take to come for what was opened for it, ms. */
const OPENING = 60_000
/** Before a first version others are heard for so long, ms; once one was, so much longer. */
const CATCH_UP = { timeout: 1_000, grace: 200 }
/** So long other hosts may take to say what they have before a parcel is removed here, ms. */
const LEAVING = 5_000
/** Parcels that are read from the store side by side: one alone waits for the disk, read by read. */
const LOADED_AT_ONCE = 8
/** So long a machine that is started waits for its lease, ms. */
const LEASE_TIMEOUT = 10_000
const JOIN_TIMEOUT = 60_000

/** This host: owns the store, the identity and the swarm, and lists the parcels. Start reading here. */
export class Host {
  readonly home: Home
  /** Invites whose newcomers somebody looks at. */
  readonly approvals = new Approvals()
  /** What can be done with versions that are there. */
  readonly versions: Versions
  readonly upkeep: Upkeep
  readonly retention: Retention
  readonly leases: Leases
  readonly remoteSuspend: RemoteSuspend
  readonly checkpoints: Checkpoints
  readonly nextSite: NextSite
  /** To other hosts of this process: folders that are vaults. */
  readonly inProcess: InProcess
  /** What happened here. */
  readonly events: Events
  /** How fast blocks come and go. */
  readonly limits: Limits
  readonly #rehearsal: Rehearsal
  readonly #watch: Watch
  readonly #context: ParcelContext
  readonly #outside: Outside
  readonly #swarm: Swarm
  readonly #entrance: Entrance
  readonly #parcels: ParcelList
  /** What members are told of this host. */
  readonly #facts = hostFacts()
  readonly #items = new ItemServer(({ parcel: id, version, prefetch }) => {
    const parcel = this.#parcels.withId(Buffer.from(id, 'hex'))
    if (parcel === undefined) throw new ParcelError('UNKNOWN_PARCEL', 'this parcel is not here')
    const known = parcel.history.get(Buffer.from(version, 'hex'))
    if (known === null) throw new ParcelError('UNKNOWN_VERSION', 'this version is not here')
    return parcel.lending.lend(known, { prefetch })
  })
  #scrub: Scrub | null = null
  /** Parcels that are being resumed or run. */
  readonly #started = new Set<Parcel>()
  /** What is under way on a parcel, so that one thing at a time is. */
  readonly #busy = new Map<Parcel | null, Promise<unknown>>()

  private constructor(
    home: Home,
    context: ParcelContext,
    bootstrap: Node[] | null,
    outside: Outside,
    events: Events,
    {
      parcels,
      limits,
      addresses,
      wake
    }: { parcels: ParcelList; limits: Limits; addresses: Addresses; wake: Wake }
  ) {
    this.#parcels = parcels
    this.limits = limits
    this.#outside = outside
    this.events = events
    this.remoteSuspend = new RemoteSuspend({
      home,
      parcels: this.#parcels,
      events,
      suspend: (parcel, options) => this.suspend(parcel.name, options)
    })
    this.checkpoints = new Checkpoints({
      parcels,
      events,
      machine: (parcel) => this.#machine(parcel),
      checkpoint: (parcel, options) =>
        this.#task(parcel.name, (_, work) => this.#machine(parcel).commit('proceed', options, work))
    })
    this.#watch = new Watch(events, {
      parcels: () => this.#parcels.all,
      peers: (parcel) => this.#swarm.peers(parcel)
    })
    this.home = home
    this.#context = context
    this.#swarm = new Swarm(home.identity.keyPair, bootstrap, addresses)
    limits.isHere = (host) => this.#swarm.isHere(host)
    limits.isNear = (host) => this.#swarm.isNear(host)
    limits.onRelaying = (isOn) => this.#swarm.relay(isOn)
    this.nextSite = new NextSite({
      self: home.identity.publicKey.toString('hex'),
      parcels,
      limits,
      wake,
      isConnected: (parcel, id) => this.#swarm.peers(parcel).some((peer) => peer.host === id)
    })
    this.versions = new Versions({
      home,
      parcels: this.#parcels,
      nextSite: this.nextSite,
      alone: (parcel, work) => this.#alone(parcel, work)
    })
    this.upkeep = new Upkeep({ parcels: this.#parcels, versions: this.versions })
    this.leases = new Leases({
      parcels: this.#parcels,
      alone: (parcel, work) => this.#alone(parcel, work)
    })
    this.retention = new Retention({ home, parcels: this.#parcels })
    this.#rehearsal = new Rehearsal(this.#parcels)
    this.#entrance = new Entrance({
      home,
      context,
      bootstrap,
      parcels: this.#parcels,
      share: (parcel) => this.#share(parcel),
      whenMet: (onMet) => this.#swarm.whenMet(onMet),
      describe: (parcel) => this.#describe(parcel),
      alone: (work) => this.#alone(null, work)
    })
    this.inProcess = new InProcess({
      publicKey: home.identity.publicKey,
      parcels: this.#parcels,
      swarm: this.#swarm,
      entrance: this.#entrance,
      alone: (work) => this.#alone(null, work)
    })
  }

  /** Makes a new host: identity and empty store. Throws NAME_TAKEN if there is one in `home`. */
  static async create({ name, ...options }: HostOptions & { name?: string } = {}): Promise<Host> {
    return Host.#start(await createHome(homeDir(options.home), name), options)
  }

  /** Opens a host. Throws NO_STORE, STORE_IN_USE, BAD_KEY, LOCKED, NOT_YOURS, FORKED. */
  static async open(options: HostOptions = {}): Promise<Host> {
    return Host.#start(await openHome(homeDir(options.home), options.passphrase), options)
  }

  static async #start(
    home: Home,
    { bootstrap, clock = Date.now, isRemovable = false }: HostOptions
  ): Promise<Host> {
    const text = bootstrap ?? process.env['HYPERPARCEL_BOOTSTRAP'] ?? ''
    const nodes = text === '' ? null : parseBootstrap(text)
    const store = await Store.open(join(home.dir, 'store'))
    const { isSuspect } = await markOpen(home.dir)
    const stateDir = join(home.dir, 'parcels')
    const { states, failures } = await readStates(stateDir, home.identity.atRest)
    const index = await ChunkIndex.open(join(home.dir, 'index'), home.identity.index, (error) =>
      store.writeFailure(error)
    )
    const { identity, name: hostName } = home
    const pool = new WorkerPool()
    const parcels = new ParcelList()
    const limits = await Limits.open(home.dir, parcels)
    const outside = await Outside.open(home.dir, home.identity.atRest, index, pool)
    const lookaside = new Lookaside(index, outside)
    const lent = {
      store,
      index,
      pool,
      lookaside,
      identity,
      hostName,
      stateDir,
      clock,
      traffic: new Traffic((host, moved) => limits.spent(host, moved)),
      down: limits.down,
      downOf: (host: string) => limits.downOf(host),
      sending: (host: string, send: () => Promise<void>) => limits.sending(host, send),
      isNear: (host: string) => limits.isNear(host),
      isSuspect,
      quota: new Quota(join(home.dir, 'store'), await readQuota(home.dir))
    }
    const events = await Events.open(home.dir, home.identity.atRest, clock)
    const addresses = await Addresses.open(home.dir, home.identity.atRest)
    const wake = await Wake.open(home.dir)
    const host: Host = new Host(home, lent, nodes, outside, events, {
      parcels,
      limits,
      addresses,
      wake
    })
    host.#scrub = await Scrub.open(home.dir, host.#parcels, clock)
    for (const { error } of failures) host.#parcels.addProblem(error)
    const load = async (state: LocalState): Promise<Parcel | null> => {
      try {
        // Whoever had its disk can have put anything there: a vault has no folder, and no key to read.
        if (isRemovable && !isBlindState(state)) {
          throw new ParcelError('INTEGRITY', 'what a vault has says that it is no vault')
        }
        return await Parcel.load(lent, state)
      } catch (error) {
        host.#parcels.addUnopened(state.name, error)
        return null
      }
    }
    const loading = new OrderedWindow<Parcel | null>(LOADED_AT_ONCE, async (parcel) => {
      if (parcel !== null) host.#share(parcel)
    })
    await loading.run(async () => {
      for (const state of states) await loading.push(load(state))
    })
    // With nothing but parcels of another host, this is another host's home.
    if (states.length === 0 && failures[0] !== undefined) {
      await host.close()
      throw failures[0].error
    }
    host.#swarm.ready()
    if (!isRemovable) {
      await host.#items.listen(home.dir)
      host.#scrub.start()
      host.retention.start()
      host.#watch.start()
      limits.start()
      host.checkpoints.start()
      host.#rehearsal.start()
    }
    const isLost = host.#parcels.all.some((parcel) => parcel.isLost)
    if (home.isRestored || isLost) host.#entrance.seek()
    return host
  }

  /** The identity's public key in words, to be compared by people. */
  get words(): string {
    return fingerprint(this.home.identity.publicKey)
  }

  /** The identity's public key, in hex: how other hosts know this one. */
  get id(): string {
    return this.home.identity.publicKey.toString('hex')
  }

  get name(): string {
    return this.home.name
  }

  /** Invites that are open; they end with this process. */
  get openInvites(): number {
    return this.#entrance.pairing.open
  }

  /** Proofs of newcomers that did not know an invite's words, since the start. */
  get wrongGuesses(): number {
    return this.#entrance.pairing.wrong
  }

  /** Handshakes of untrusted keys that were refused since the start. */
  get refused(): number {
    return this.#swarm.refused
  }

  /** Parcels that could not be opened, and why; the others are not affected. */
  get problems(): readonly string[] {
    return this.#parcels.problems
  }

  /** Whether the store refuses to be written to, as after a full disk; only opening it anew helps. */
  get isBroken(): boolean {
    return this.#context.store.isBroken
  }

  /** Whether the store's folder was removed or replaced: only the end of the process is safe then, not `close`. */
  isDisplaced(): Promise<boolean> {
    return this.#context.store.isDisplaced()
  }

  /** Whether a broken store could be opened anew: that needs some room on the disk. */
  canReopen(): Promise<boolean> {
    return this.#context.store.hasRoom()
  }

  /** Registers a folder as a parcel. It has no version before the first suspend. */
  add(path: string, { name, vm }: { name: string; vm: string }): Promise<ParcelInfo> {
    return this.#alone(null, async () => {
      requireName(name)
      this.#parcels.requireFree(name)
      const driver = driverNamed(vm)
      const dir = await requireFolder(path)
      for (const parcel of this.#parcels.all) {
        if (parcel.folder.path === dir) {
          throw new ParcelError('NAME_TAKEN', `${dir} is the parcel "${parcel.name}" already`)
        }
      }
      if (overlaps(this.home.dir, dir)) {
        throw new ParcelError(
          'USAGE',
          `a parcel cannot be in the home folder ${this.home.dir}, or around it`
        )
      }
      await driver.prepare(dir)
      await driver.describe(dir)
      const parcel = await Parcel.create(this.#context, { name, driver: vm, path: dir })
      this.#share(parcel)
      return this.#describe(parcel)
    })
  }

  async list(): Promise<ParcelInfo[]> {
    return Promise.all(this.#parcels.all.map((parcel) => this.#describe(parcel)))
  }

  async status(name: string): Promise<ParcelInfo> {
    return this.#describe(this.#parcels.named(name))
  }

  /** All versions known here, children before parents. */
  async log(name: string): Promise<VersionInfo[]> {
    const parcel = this.#parcels.named(name)
    return Promise.all(
      parcel.history.list().map((known) => describeVersion(parcel, known, this.home))
    )
  }

  /**
   * Takes a parcel off this host: its logs and keys, and what was written to its versions through
   * mounts; not its folder. Throws RUNNING, TOO_FEW_COPIES when nobody else is known to have all of
   * its versions, unless `force`.
   */
  remove(name: string, { force = false } = {}): Promise<void> {
    const parcel = this.#parcels.named(name)
    return this.#alone(parcel, async () => {
      // Another call may have been faster.
      if (this.#parcels.withId(parcel.id) !== parcel) {
        throw new ParcelError('UNKNOWN_PARCEL', `"${name}" was removed already`)
      }
      await this.#machine(parcel).requireStopped()
      if (parcel.lending.isLent) {
        throw new ParcelError('RUNNING', `a version of "${name}" is mounted: end that first`)
      }
      const remove = async (): Promise<void> => {
        await this.#entrance.removed.add(parcel.id)
        this.#parcels.remove(parcel)
        await this.#swarm.unshare(parcel)
        await parcel.remove()
        await rm(homeOverlays(this.home, parcel), { recursive: true, force: true })
      }
      if (force) return remove()
      const lonely = await parcel.space.leave(LEAVING, quiet(), remove)
      if (lonely.length === 0) return
      const ids = lonely.slice(0, 3).map(({ id }) => id.toString('hex', 0, 6))
      throw new ParcelError(
        'TOO_FEW_COPIES',
        `no other host says now that it has all of ${lonely.length} versions (${ids.join(', ')}): bring ` +
          'one online that has, let one fetch them, or give --force to lose them'
      )
    })
  }

  /** Starts a machine from its folder. Throws RUNNING, CONFLICT when it is suspended. */
  run(name: string, { cold = false } = {}): Task<{ screen: string | null }> {
    return this.#task(name, (parcel, work) =>
      this.#starting(parcel, async () => {
        await takeLease(parcel, { timeout: LEASE_TIMEOUT }, work)
        parcel.leases.requireHere()
        return this.#andTell(parcel, () => this.#machine(parcel).run({ cold }))
      })
    )
  }

  /** Stops the machine (or takes the folder as it is) and makes a durable version of it. */
  suspend(name: string, options: SuspendOptions = {}): Task<SuspendResult> {
    return this.#task(name, async (parcel, work) => {
      await this.#catchUp(parcel, options, work)
      const made = await this.#andTell(parcel, () =>
        this.#machine(parcel).commit('end', options, work)
      )
      const known = parcel.history.resolve(made.version.id)
      this.nextSite.send(parcel, known).catch((error: unknown) => {
        parcel.problem('', ParcelError.from(error).message)
      })
      return made
    })
  }

  /** Makes a durable version of what was written through `open`. */
  suspendMounted(
    name: string,
    options: SuspendOptions & { cold?: boolean } = {}
  ): Task<SuspendResult> {
    return this.#task(name, async (parcel, work) => {
      await this.#catchUp(parcel, options, work)
      return commitMounted(this.home, parcel, options, work)
    })
  }

  /** Makes a durable version and lets the machine go on. */
  checkpoint(name: string, options: SuspendOptions = {}): Task<SuspendResult> {
    return this.#task(name, async (parcel, work) => {
      await this.#catchUp(parcel, options, work)
      return this.#machine(parcel).commit('proceed', options, work)
    })
  }

  /** Brings a version back: fetches what is missing, verifies, writes the folder, starts the machine. */
  resume(name: string, options: ResumeOptions = {}): Task<ResumeResult> {
    const lent = {
      home: this.home,
      swarm: this.#swarm,
      parcels: this.#parcels.all,
      outside: this.#outside
    }
    return this.#task(name, (parcel, work) =>
      this.#starting(parcel, () => this.#andTell(parcel, () => resume(parcel, options, lent, work)))
    )
  }

  /**
   * A version to be opened by an image server, the head by default. Waits for a first version.
   * Throws CONFLICT, UNKNOWN_VERSION, UNREACHABLE.
   */
  open(
    name: string,
    { version, timeout = JOIN_TIMEOUT }: { version?: string; timeout?: number } = {}
  ): Task<ImagePlace> {
    return this.#task(name, async (parcel, work) => {
      const known = await chooseVersion(parcel, version, timeout, work)
      const release = await parcel.space.hold(known)
      // From then on it is lent, or nobody came for it.
      setTimeout(release, OPENING).unref()
      return placeOf(this.home, parcel, known)
    })
  }

  /**
   * Until the returned function is called, of this parcel nothing is fetched that nobody waits for.
   * Records of versions come all the same.
   */
  hold(name: string): () => void {
    return this.#parcels.named(name).lending.hold()
  }

  /** Ends a machine without suspending it; a suspend under way is let finish first. */
  async stop(name: string): Promise<void> {
    const parcel = this.#parcels.named(name)
    const machine = this.#machine(parcel)
    machine.requireMachine()
    await this.#alone(parcel, () => this.#andTell(parcel, () => machine.process.end()))
  }

  /** The console of a running machine: a socket, both ways. */
  async attach(name: string): Promise<Socket> {
    const machine = this.#machine(this.#parcels.named(name))
    machine.requireMachine()
    return machine.process.console()
  }

  /** Folder of the running machine's socket, for attaching from another process. */
  runDir(name: string): string {
    const machine = this.#machine(this.#parcels.named(name))
    machine.requireMachine()
    return machine.runDir
  }

  /**
   * Ends a host's membership: by its name among the members, or the beginning of its key. Throws
   * FORBIDDEN, USAGE.
   */
  async revoke(name: string, host: string): Promise<ParcelInfo> {
    const parcel = this.#parcels.named(name)
    const { members } = await this.#describe(parcel)
    await parcel.admission.revoke(memberNamed(members, host))
    return this.#describe(parcel)
  }

  /** Goes on under new keys, which all members are given. Throws FORBIDDEN. */
  async rotate(name: string): Promise<ParcelInfo> {
    const parcel = this.#parcels.named(name)
    await parcel.admission.rotate()
    return this.#describe(parcel)
  }

  /**
   * Joins a parcel by an invite, or all of a link's, of which it gives the first. Throws BAD_INVITE,
   * INVITE_EXPIRED, INVITE_USED, BAD_KEY (not let in), UNREACHABLE, NAME_TAKEN.
   */
  join(invite: string, options: { name?: string; timeout?: number } = {}): Task<ParcelInfo> {
    return new Task(async (work) => {
      const task = this.joinAll(invite, options)
      work.signal.addEventListener('abort', () => task.cancel(), { once: true })
      const [first] = await task
      if (first === undefined) throw new ParcelError('INTEGRITY', 'an invite to nothing')
      return first
    })
  }

  /** As `Entrance.join`: all parcels that an invite is to. */
  joinAll(
    invite: string,
    options: { name?: string; timeout?: number; asVault?: boolean } = {}
  ): Task<ParcelInfo[]> {
    return new Task((work) => this.#entrance.join(invite, options, work))
  }

  /**
   * Opens an invite for one host to a parcel, good for `ttl` ms and for as long as this process
   * runs. Throws FORBIDDEN.
   */
  invite(name: string, options: InviteOptions = {}): Promise<OpenInvite> {
    return this.#entrance.invite(name, options)
  }

  /** Opens an invite by which a machine of the same person becomes an owner of all that this one owns. Throws FORBIDDEN. */
  link(options: Omit<InviteOptions, 'role'> = {}): Promise<OpenInvite & { parcels: string[] }> {
    return this.#entrance.link(options)
  }

  /**
   * For a host that was restored from its 24 words: waits until a member or a vault has said which
   * parcels it is in, and gives all that came by then. Throws UNREACHABLE.
   */
  recover(options: { timeout?: number } = {}): Task<ParcelInfo[]> {
    return new Task(async (work) => {
      await this.#entrance.found(options, work)
      return this.list()
    })
  }

  /** Bytes that the store has on the disk, and may have. */
  async room(): Promise<{ used: number; limit: number | null }> {
    const { quota } = this.#context
    return { used: await quota.used(), limit: quota.limit === Infinity ? null : quota.limit }
  }

  /** Settles when all that has come so far is durable. */
  async flush(): Promise<void> {
    await this.#context.store.flush()
    this.#context.quota.settle()
  }

  /** How many bytes copies of others' data may take here, from now on; null: as many as there are. */
  async setQuota(bytes: number | null): Promise<void> {
    await writeQuota(this.home.dir, bytes)
    this.#context.quota.limit = bytes ?? Infinity
  }

  /** Image servers that have a version of some parcel open. */
  get openImages(): number {
    return this.#items.clients
  }

  /** Ends all network traffic and closes the store. Running machines go on. */
  async close(): Promise<void> {
    await this.remoteSuspend.close()
    this.limits.close()
    await this.checkpoints.close()
    await this.#rehearsal.close()
    this.#watch.close()
    await this.events.save()
    await this.#scrub?.close()
    await this.retention.close()
    await this.#items.close()
    await this.#entrance.close()
    await this.#swarm.close()
    for (const parcel of this.#parcels.all) await parcel.close()
    await this.#context.lookaside.close()
    await this.#context.pool.close()
    await this.#context.index.close()
    await this.#context.store.close()
    await markClosed(this.home.dir)
  }

  /** When a block last went to or came from a peer, by `performance.now`. */
  get lastTraffic(): number {
    return this.#context.traffic.last
  }

  /** How blocks are read in the background. */
  get scrub(): Scrub {
    if (this.#scrub === null) throw new Error('the host is not open yet')
    return this.#scrub
  }

  #task<T>(name: string, work: (parcel: Parcel, work: Work) => Promise<T>): Task<T> {
    return new Task(async (task) => {
      const parcel = this.#parcels.named(name)
      return this.#alone(parcel, () => {
        task.signal.throwIfAborted()
        return work(parcel, task)
      })
    })
  }

  /** One thing at a time on a parcel, in the order asked for; null: on the list of parcels. */
  #alone<T>(parcel: Parcel | null, work: () => Promise<T>): Promise<T> {
    const before = this.#busy.get(parcel) ?? Promise.resolve()
    const run = before.then(work)
    this.#busy.set(
      parcel,
      run.catch(() => {})
    )
    return run
  }

  async #describe(parcel: Parcel): Promise<ParcelInfo> {
    const machine = this.#machine(parcel).process
    const status = await machine.status()
    this.#tellRunning(parcel, status)
    return describeParcel(parcel, {
      home: this.home,
      peers: this.#peers(parcel),
      machine: status,
      lastWords: await machine.lastWords(),
      suspendAsked: this.remoteSuspend.pending(parcel),
      isPaused: this.limits.isPaused(parcel)
    })
  }

  /** Tells the other hosts whether its machine runs here, if that is not as they were told. */
  #tellRunning(parcel: Parcel, machine: { started: number } | null): void {
    parcel.says.running(machine?.started ?? null).catch((error: unknown) => {
      parcel.problem('', ParcelError.from(error).message)
    })
  }

  /** Tells the other hosts what became of its machine, if anything did. */
  async #andTell<T>(parcel: Parcel, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } finally {
      this.#tellRunning(
        parcel,
        await this.#machine(parcel)
          .process.status()
          .catch(() => null)
      )
    }
  }

  /**
   * Before this host's first version since the start: if its whole home was put back from a copy, only
   * others know.
   */
  async #catchUp(parcel: Parcel, { offline = false }: SuspendOptions, work: Work): Promise<void> {
    if (offline || parcel.forks.isHeard || parcel.peers.trusted().size === 0) return
    await this.#swarm.hear(parcel, { ...CATCH_UP, signal: work.signal })
    await parcel.forks.ask()
  }

  /** Lets nothing of a parcel, or of any, come that nobody waits for; or lets it come again. */
  async pause(name: string | null, isPaused: boolean): Promise<void> {
    const parcel = name === null ? null : this.#parcels.named(name)
    await this.limits.setPaused(parcel, isPaused)
  }

  /** Meanwhile nobody else gets the lease. */
  async #starting<T>(parcel: Parcel, work: () => Promise<T>): Promise<T> {
    this.#started.add(parcel)
    try {
      return await work()
    } finally {
      this.#started.delete(parcel)
    }
  }

  /** Whether a parcel is used here, or its folder has what no version has. */
  async #isInUse(parcel: Parcel): Promise<boolean> {
    if (this.#started.has(parcel) || parcel.lending.isLent) return true
    if ((await this.#machine(parcel).process.status()) !== null) return true
    const overlays = homeOverlays(this.home, parcel)
    if ((await readMarker(overlays)) !== null && (await hasOverlays(overlays))) return true
    const { path } = parcel.folder
    if (path === null) return false
    return requireSuspended(parcel, path, quiet().signal).then(
      () => false,
      () => true
    )
  }

  #peers(parcel: Parcel): PeerInfo[] {
    const { traffic } = this.#context
    const id = parcel.id.toString('hex')
    return this.#swarm.peers(parcel).map((peer) => ({
      ...peer,
      name: parcel.hostName(peer.host),
      path: pathTo(peer),
      relayName: peer.relay === null ? null : parcel.hostName(peer.relay),
      ...traffic.rates(id, peer.host),
      ...traffic.total(id, peer.host)
    }))
  }

  #share(parcel: Parcel): void {
    parcel.answers.suspendFor = (question, host) =>
      this.remoteSuspend.answer(parcel, question, host)
    parcel.leases.isBusy = () => this.#isInUse(parcel)
    parcel.mountedVersion = async () =>
      (await readMarker(homeOverlays(this.home, parcel)))?.version ?? null
    this.#parcels.add(parcel)
    this.limits.heed(parcel)
    this.#swarm.share(parcel)
    const say = async (): Promise<void> => {
      await parcel.says.recovery(parcel)
      await parcel.says.facts(await this.#facts)
    }
    say().catch((error: unknown) => parcel.problem('', ParcelError.from(error).message))
  }

  #machine(parcel: Parcel): ParcelMachine {
    return new ParcelMachine(this.home, parcel)
  }
}

function isBlindState({ path, pending, epochs }: LocalState): boolean {
  return path === null && pending === null && epochs.every(({ epochKey }) => epochKey === null)
}

/** Of what nobody watches. */
function quiet(): Work {
  return { report: () => {}, note: () => {}, signal: new AbortController().signal }
}
