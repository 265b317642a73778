import type { Socket } from 'node:net'
import { join } from 'node:path'
import { WorkerPool } from './chunk/worker-pool.js'
import { describeParcel, describeVersion, joinReply } from './describe.js'
import { ParcelError } from './errors.js'
import { createHome, homeDir, openHome, type Home } from './home.js'
import type {
  ImagePlace,
  ParcelInfo,
  ResumeOptions,
  ResumeResult,
  SuspendOptions,
  SuspendResult,
  VersionInfo
} from './info.js'
import { ItemServer } from './item-server.js'
import { ChunkIndex } from './log/chunk-index.js'
import { Store } from './log/store.js'
import { requireName } from './names.js'
import { commitMounted } from './mounted.js'
import { placeOf } from './open-images.js'
import type { ParcelContext } from './parcel/context.js'
import { Lookaside } from './parcel/lookaside.js'
import { readStates } from './parcel/local-state.js'
import { Outside } from './parcel/outside.js'
import { Parcel } from './parcel/parcel.js'
import { ParcelList } from './parcel-list.js'
import { ParcelMachine } from './parcel-machine.js'
import { overlaps, requireFolder } from './paths.js'
import { Task, type Work } from './progress.js'
import { chooseVersion, resume } from './resume.js'
import { markClosed, markOpen } from './run-marker.js'
import { parseBootstrap, type Node } from './swarm/dht.js'
import { Pairing } from './swarm/pairing.js'
import { Swarm } from './swarm/swarm.js'
import { driverNamed } from './vmm/drivers.js'

export interface HostOptions {
  /** The home folder; default as for the command line. */
  home?: string
  /** 'host:port[,…]' of a private DHT; default HYPERPARCEL_BOOTSTRAP, else the public one. */
  bootstrap?: string
  /** Milliseconds since 1970; for people and invites, it decides nothing else. */
  clock?: () => number
}

const DEFAULT_TTL = 10 * 60_000
const JOIN_TIMEOUT = 60_000

/** This host: owns the store, the identity and the swarm, and lists the parcels. Start reading here. */
export class Host {
  readonly home: Home
  /** When a block last went to or came from a peer, by `performance.now`. */
  lastTraffic = performance.now()
  readonly #context: ParcelContext
  readonly #outside: Outside
  readonly #swarm: Swarm
  readonly #pairing: Pairing
  readonly #parcels = new ParcelList()
  readonly #items = new ItemServer(({ parcel: id, version, prefetch }) => {
    const parcel = this.#parcels.withId(Buffer.from(id, 'hex'))
    if (parcel === undefined) throw new ParcelError('UNKNOWN_PARCEL', 'this parcel is not here')
    return parcel.lend(parcel.history.resolve(version), { prefetch })
  })
  /** What is under way on a parcel, so that one thing at a time is. */
  readonly #busy = new Map<Parcel | null, Promise<unknown>>()

  private constructor(
    home: Home,
    context: ParcelContext,
    bootstrap: Node[] | null,
    outside: Outside
  ) {
    this.#outside = outside
    this.home = home
    this.#context = context
    this.#swarm = new Swarm(home.identity.keyPair, bootstrap)
    this.#pairing = new Pairing(home.identity, bootstrap, context.clock)
  }

  /** Makes a new host: identity and empty store. Throws NAME_TAKEN if there is one in `home`. */
  static async create({ name, ...options }: HostOptions & { name?: string } = {}): Promise<Host> {
    return Host.#start(await createHome(homeDir(options.home), name), options)
  }

  /** Opens a host. Throws NO_STORE, STORE_IN_USE, BAD_KEY, NOT_YOURS, FORKED. */
  static async open(options: HostOptions = {}): Promise<Host> {
    return Host.#start(await openHome(homeDir(options.home)), options)
  }

  static async #start(home: Home, { bootstrap, clock = Date.now }: HostOptions): Promise<Host> {
    const text = bootstrap ?? process.env['HYPERPARCEL_BOOTSTRAP'] ?? ''
    const nodes = text === '' ? null : parseBootstrap(text)
    const store = await Store.open(join(home.dir, 'store'))
    const { isSuspect } = await markOpen(home.dir)
    const stateDir = join(home.dir, 'parcels')
    const { states, failures } = await readStates(stateDir, home.identity.atRest)
    const index = await ChunkIndex.open(join(home.dir, 'index'), home.identity.index)
    const { identity, name: hostName } = home
    const pool = new WorkerPool()
    const onTraffic = (): void => {
      host.lastTraffic = performance.now()
    }
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
      onTraffic,
      isSuspect
    }
    const host: Host = new Host(home, lent, nodes, outside)
    for (const { error } of failures) host.#parcels.addUnreadable(error)
    for (const state of states) {
      try {
        host.#share(await Parcel.load(lent, state))
      } catch (error) {
        host.#parcels.addUnopened(state.name, error)
      }
    }
    // With nothing but parcels of another host, this is another host's home.
    if (states.length === 0 && failures[0] !== undefined) {
      await host.close()
      throw failures[0].error
    }
    await host.#items.listen(home.dir)
    return host
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
    return this.#pairing.open
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
        throw new ParcelError('USAGE', `a parcel cannot be in the home folder ${this.home.dir}`)
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

  /** Starts a machine from its folder. Throws RUNNING, CONFLICT when it is suspended. */
  run(name: string, { cold = false } = {}): Promise<{ screen: string | null }> {
    const parcel = this.#parcels.named(name)
    return this.#alone(parcel, () => this.#machine(parcel).run({ cold }))
  }

  /** Stops the machine (or takes the folder as it is) and makes a durable version of it. */
  suspend(name: string, options: SuspendOptions = {}): Task<SuspendResult> {
    return this.#task(name, (parcel, work) => this.#machine(parcel).commit('end', options, work))
  }

  /** Makes a durable version of what was written through `open`. */
  suspendMounted(
    name: string,
    options: SuspendOptions & { cold?: boolean } = {}
  ): Task<SuspendResult> {
    return this.#task(name, (parcel, work) => commitMounted(this.home, parcel, options, work))
  }

  /** Makes a durable version and lets the machine go on. */
  checkpoint(name: string, options: SuspendOptions = {}): Task<SuspendResult> {
    return this.#task(name, (parcel, work) =>
      this.#machine(parcel).commit('proceed', options, work)
    )
  }

  /** Brings a version back: fetches what is missing, verifies, writes the folder, starts the machine. */
  resume(name: string, options: ResumeOptions = {}): Task<ResumeResult> {
    const lent = {
      home: this.home,
      swarm: this.#swarm,
      parcels: this.#parcels.all,
      outside: this.#outside
    }
    return this.#task(name, (parcel, work) => resume(parcel, options, lent, work))
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
      return placeOf(this.home, parcel, known)
    })
  }

  /**
   * Until the returned function is called, of this parcel nothing is fetched that nobody waits for.
   * Records of versions come all the same.
   */
  hold(name: string): () => void {
    return this.#parcels.named(name).hold()
  }

  /** Ends a machine without suspending it; a suspend under way is let finish first. */
  stop(name: string): Promise<void> {
    const parcel = this.#parcels.named(name)
    return this.#alone(parcel, () => this.#machine(parcel).process.end())
  }

  /** The console of a running machine: a socket, both ways. */
  async attach(name: string): Promise<Socket> {
    return this.#machine(this.#parcels.named(name)).process.console()
  }

  /** Folder of the running machine's socket, for attaching from another process. */
  runDir(name: string): string {
    return this.#machine(this.#parcels.named(name)).runDir
  }

  /** Opens an invite for one host to a parcel, good for `ttl` ms and for as long as this process runs. */
  async invite(
    name: string,
    { ttl = DEFAULT_TTL } = {}
  ): Promise<{ invite: string; expires: number }> {
    const parcel = this.#parcels.named(name)
    if (!parcel.isOwner()) {
      throw new ParcelError('FAILED', `only the owner of "${name}" can invite: do it on that host`)
    }
    const { text, expires } = await this.#pairing.invite(ttl, async (host) => {
      await parcel.admit(host)
      return joinReply(parcel, this.home)
    })
    return { invite: text, expires }
  }

  /** Joins a parcel by an invite. Throws BAD_INVITE, INVITE_EXPIRED, INVITE_USED, UNREACHABLE, NAME_TAKEN. */
  join(
    invite: string,
    { name, timeout = JOIN_TIMEOUT }: { name?: string; timeout?: number } = {}
  ): Task<ParcelInfo> {
    return new Task((work) =>
      this.#alone(null, async () => {
        if (name !== undefined) {
          requireName(name)
          this.#parcels.requireFree(name)
        }
        const options = { timeout, signal: work.signal }
        const reply = await this.#pairing.join(invite, this.name, options)
        const known = this.#parcels.withId(reply.parcel)
        if (known !== undefined) return this.#describe(known)
        driverNamed(reply.driver)
        const parcel = await Parcel.join(this.#context, {
          ...reply,
          id: reply.parcel,
          name: this.#parcels.freeName(name ?? reply.name)
        })
        this.#share(parcel)
        return this.#describe(parcel)
      })
    )
  }

  /** Image servers that have a version of some parcel open. */
  get openImages(): number {
    return this.#items.clients
  }

  /** Ends all network traffic and closes the store. Running machines go on. */
  async close(): Promise<void> {
    await this.#items.close()
    await this.#pairing.close()
    await this.#swarm.close()
    for (const parcel of this.#parcels.all) await parcel.close()
    await this.#context.lookaside.close()
    await this.#context.pool.close()
    await this.#context.index.close()
    await this.#context.store.close()
    await markClosed(this.home.dir)
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
    return describeParcel(parcel, {
      home: this.home,
      peers: this.#swarm.peers(parcel),
      machine: await machine.status(),
      lastWords: await machine.lastWords()
    })
  }

  #share(parcel: Parcel): void {
    this.#parcels.add(parcel)
    this.#swarm.share(parcel)
  }

  #machine(parcel: Parcel): ParcelMachine {
    return new ParcelMachine(this.home, parcel)
  }
}
