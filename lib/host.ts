import { lstat, realpath } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { WorkerPool } from './chunk/worker-pool.js'
import { ParcelError } from './errors.js'
import { MAX_TEXT } from './format/limits.js'
import type { JoinReply } from './format/pairing.js'
import { createHome, homeDir, openHome, type Home } from './home.js'
import { ChunkIndex } from './log/chunk-index.js'
import { Store } from './log/store.js'
import type { ParcelContext } from './parcel/context.js'
import { readStates } from './parcel/local-state.js'
import { Parcel } from './parcel/parcel.js'
import { isName, requireName } from './names.js'
import { namesIn, overlaps, realDestination } from './paths.js'
import { markClosed, markOpen } from './run-marker.js'
import type { Known } from './parcel/history.js'
import { requireNoChanges } from './parcel/changes.js'
import type { Skipped } from './parcel/walk.js'
import { Task, type Work } from './progress.js'
import { describeParcel, describeVersion } from './describe.js'
import type { ParcelInfo, VersionInfo } from './info.js'
import { Pairing } from './swarm/pairing.js'
import { Swarm } from './swarm/swarm.js'
import { parseBootstrap, type Node } from './swarm/dht.js'
import { driverNamed } from './vmm/drivers.js'
import type { Driver } from './vmm/driver.js'
import { hasMachineState, isScratch, removeMachineState, requireFit } from './vmm/state-files.js'
import { MachineProcess } from './vmm/machine-process.js'

export interface HostOptions {
  /** The home folder; default as for the command line. */
  home?: string
  /** 'host:port[,…]' of a private DHT; default HYPERPARCEL_BOOTSTRAP, else the public one. */
  bootstrap?: string
  /** Milliseconds since 1970; for people and invites, it decides nothing else. */
  clock?: () => number
}

export interface SuspendOptions {
  message?: string
  compress?: boolean
}

export interface SuspendResult {
  version: VersionInfo
  /** What is in the folder but could not be stored. */
  skipped: Skipped[]
}

export interface ResumeOptions {
  /** Beginning of a version's id; default the head. */
  version?: string
  /** The folder to write; default where the parcel is on this host, else `./NAME`. */
  to?: string
  /** Overwrite what was not suspended. */
  force?: boolean
  /** false: only write the files, do not start the machine. */
  start?: boolean
  /** Folder in which a parcel that is nowhere on this host yet gets its own, named like it. */
  cwd?: string
  /** How long to wait for hosts that do not answer, ms. */
  timeout?: number
}

export interface ResumeResult {
  version: VersionInfo
  path: string
  isRunning: boolean
  screen: string | null
  /** Hosts that said what their newest version is, and those that did not. */
  heard: string[]
  silent: string[]
}

/** The supervisor writes it beside the machine file; it grows while the guest prints. */
const CONSOLE_LOG = 'console.log'
const DEFAULT_TTL = 10 * 60_000
const JOIN_TIMEOUT = 60_000
const RESUME_TIMEOUT = 60_000
/** How long a resume listens for newer versions when nobody answers, and after the first did. */
const HEAR = { timeout: 5_000, grace: 1_000 }

/** This host: owns the store, the identity and the swarm, and lists the parcels. Start reading here. */
export class Host {
  readonly home: Home
  /** When a block last went to or came from a peer, by `performance.now`. */
  lastTraffic = performance.now()
  readonly #store: Store
  readonly #index: ChunkIndex
  readonly #pool: WorkerPool
  readonly #context: ParcelContext
  readonly #swarm: Swarm
  readonly #pairing: Pairing
  readonly #parcels: Parcel[] = []
  readonly #problems: string[] = []
  readonly #unopened = new Map<string, ParcelError>()
  /** What is under way on a parcel, so that one thing at a time is. */
  readonly #busy = new Map<Parcel | null, Promise<unknown>>()

  private constructor(home: Home, context: ParcelContext, bootstrap: Node[] | null) {
    this.home = home
    this.#context = context
    this.#store = context.store
    this.#index = context.index
    this.#pool = context.pool
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
    const context = {
      store,
      index,
      pool,
      identity,
      hostName,
      stateDir,
      clock,
      onTraffic,
      isSuspect
    }
    const host: Host = new Host(home, context, nodes)
    for (const { error } of failures) host.#problems.push(error.message)
    for (const state of states) {
      try {
        host.#share(await Parcel.load(context, state))
      } catch (error) {
        const { code, message } = ParcelError.from(error)
        const failure = new ParcelError(code, `"${state.name}" does not open: ${message}`, error)
        host.#problems.push(failure.message)
        host.#unopened.set(state.name, failure)
      }
    }
    // With nothing but parcels of another host, this is another host's home.
    if (states.length === 0 && failures[0] !== undefined) {
      await host.close()
      throw failures[0].error
    }
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
    return this.#problems
  }

  /** Whether the store refuses to be written to, as after a full disk; only opening it anew helps. */
  get isBroken(): boolean {
    return this.#store.isBroken
  }

  /** Whether a broken store could be opened anew: that needs some room on the disk. */
  canReopen(): Promise<boolean> {
    return this.#store.hasRoom()
  }

  /** Registers a folder as a parcel. It has no version before the first suspend. */
  add(path: string, { name, vm }: { name: string; vm: string }): Promise<ParcelInfo> {
    return this.#alone(null, async () => {
      requireName(name)
      this.#requireFree(name)
      const driver = driverNamed(vm)
      const dir = await requireFolder(path)
      for (const parcel of this.#parcels) {
        if (parcel.path === dir) {
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
    return Promise.all(this.#parcels.map((parcel) => this.#describe(parcel)))
  }

  async status(name: string): Promise<ParcelInfo> {
    return this.#describe(this.#parcel(name))
  }

  /** All versions known here, children before parents. */
  async log(name: string): Promise<VersionInfo[]> {
    const parcel = this.#parcel(name)
    return Promise.all(
      parcel.history.list().map((known) => describeVersion(parcel, known, this.home))
    )
  }

  /** Starts a machine from its folder. Throws RUNNING, CONFLICT when it is suspended. */
  run(name: string, { cold = false } = {}): Promise<{ screen: string | null }> {
    const parcel = this.#parcel(name)
    return this.#alone(parcel, () => this.#run(parcel, cold))
  }

  /** Stops the machine (or takes the folder as it is) and makes a durable version of it. */
  suspend(name: string, options: SuspendOptions = {}): Task<SuspendResult> {
    return this.#task(name, (parcel, work) => this.#commit(parcel, 'end', options, work))
  }

  /** Makes a durable version and lets the machine go on. */
  checkpoint(name: string, options: SuspendOptions = {}): Task<SuspendResult> {
    return this.#task(name, (parcel, work) => this.#commit(parcel, 'proceed', options, work))
  }

  /** Brings a version back: fetches what is missing, verifies, writes the folder, starts the machine. */
  resume(name: string, options: ResumeOptions = {}): Task<ResumeResult> {
    return this.#task(name, (parcel, work) => this.#resume(parcel, options, work))
  }

  /** Ends a machine without suspending it; a suspend under way is let finish first. */
  stop(name: string): Promise<void> {
    const parcel = this.#parcel(name)
    return this.#alone(parcel, () => this.#machine(parcel).end())
  }

  /** The console of a running machine: a socket, both ways. */
  async attach(name: string): ReturnType<MachineProcess['console']> {
    return this.#machine(this.#parcel(name)).console()
  }

  /** Folder of the running machine's socket, for attaching from another process. */
  runDir(name: string): string {
    return this.#runDir(this.#parcel(name))
  }

  /** Opens an invite for one host to a parcel, good for `ttl` ms and for as long as this process runs. */
  async invite(
    name: string,
    { ttl = DEFAULT_TTL } = {}
  ): Promise<{ invite: string; expires: number }> {
    const parcel = this.#parcel(name)
    if (!parcel.isOwner()) {
      throw new ParcelError('FAILED', `only the owner of "${name}" can invite: do it on that host`)
    }
    const { text, expires } = await this.#pairing.invite(ttl, async (host) => {
      await parcel.admit(host)
      return this.#joinReply(parcel)
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
          this.#requireFree(name)
        }
        const options = { timeout, signal: work.signal }
        const reply = await this.#pairing.join(invite, this.name, options)
        const known = this.#parcels.find(({ id }) => id.equals(reply.parcel))
        if (known !== undefined) return this.#describe(known)
        driverNamed(reply.driver)
        const parcel = await Parcel.join(this.#context, {
          ...reply,
          id: reply.parcel,
          name: this.#freeName(name ?? reply.name)
        })
        this.#share(parcel)
        return this.#describe(parcel)
      })
    )
  }

  /** Ends all network traffic and closes the store. Running machines go on. */
  async close(): Promise<void> {
    await this.#pairing.close()
    await this.#swarm.close()
    for (const parcel of this.#parcels) await parcel.close()
    await this.#pool.close()
    await this.#index.close()
    await this.#store.close()
    await markClosed(this.home.dir)
  }

  #task<T>(name: string, work: (parcel: Parcel, work: Work) => Promise<T>): Task<T> {
    return new Task(async (task) => {
      const parcel = this.#parcel(name)
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

  async #run(parcel: Parcel, cold: boolean): Promise<{ screen: string | null }> {
    const driver = driverNamed(parcel.driver)
    const path = requirePath(parcel)
    await this.#requireStopped(parcel)
    const hasState = await hasMachineState(driver, path)
    if (cold) {
      await removeMachineState(driver, path)
    } else if (!hasState && (await this.#isSuspended(parcel, driver))) {
      throw new ParcelError(
        'CONFLICT',
        `"${parcel.name}" is suspended: 'hyperparcel resume ${parcel.name}' goes on where it ` +
          `stopped ('run --cold' boots it anew and forgets its memory)`
      )
    }
    const resume = hasState && !cold
    const machine = this.#machine(parcel)
    const screen = await machine.start({ driver: driver.name, dir: path, resume })
    await parcel.setStarted()
    return { screen }
  }

  async #commit(
    parcel: Parcel,
    after: 'end' | 'proceed',
    { message = '', compress = true }: SuspendOptions,
    work: Work
  ): Promise<SuspendResult> {
    if (Buffer.byteLength(message) > MAX_TEXT) {
      throw new ParcelError('USAGE', `a message has at most ${MAX_TEXT} bytes`)
    }
    const driver = driverNamed(parcel.driver)
    const path = requirePath(parcel)
    const machine = this.#machine(parcel)
    const store = async (): Promise<SuspendResult> => {
      const described = await driver.describe(path)
      const request = {
        path,
        roles: { [CONSOLE_LOG]: 'log' as const, ...described.roles },
        exclude: isScratch(driver),
        facts: await driver.facts(described),
        message,
        compress
      }
      const { version, skipped } = await parcel.commit(request, work)
      return { version: await describeVersion(parcel, version, this.home), skipped }
    }
    if ((await machine.status()) !== null) {
      const result = await machine.captured(after, store)
      // Memory and device state are in the log now, sealed; in the clear they are not left behind.
      if (after === 'end') await removeMachineState(driver, path)
      else await parcel.setStarted()
      return result
    }
    if (driver.statePaths.length > 0 && after === 'proceed') {
      throw new ParcelError('NOT_RUNNING', `"${parcel.name}" is not running: 'suspend' it instead`)
    }
    if (!(await hasMachineState(driver, path)) && (await this.#isSuspended(parcel, driver))) {
      throw new ParcelError('NOT_RUNNING', `"${parcel.name}" is suspended already: nothing to do`)
    }
    const result = await store()
    await removeMachineState(driver, path)
    return result
  }

  async #resume(parcel: Parcel, options: ResumeOptions, work: Work): Promise<ResumeResult> {
    const driver = driverNamed(parcel.driver)
    await this.#requireStopped(parcel)
    const { timeout = RESUME_TIMEOUT, cwd = '.' } = options
    work.report({ step: 'asking', done: 0, total: 0, unit: 'blocks' })
    const heard = await this.#swarm.hear(parcel, { ...HEAR, signal: work.signal })
    const wanted = await this.#choose(parcel, options.version, timeout, work)
    await requireFit(driver, wanted.version.facts)
    const chosen = options.to ?? parcel.path ?? (isName(parcel.name) ? parcel.name : 'parcel')
    const path = await realDestination(resolve(cwd, chosen))
    const requireWritable = (): Promise<void> =>
      this.#requireWritable(parcel, driver, path, options.force === true)
    await requireWritable()
    await parcel.fetch(wanted, { timeout }, work)
    // Once more at the end: the user may have gone on working in the folder meanwhile.
    await parcel.checkOut(wanted, path, requireWritable, work)
    const isMachine = driver.statePaths.length > 0 && options.start !== false
    const screen = isMachine ? (await this.#run(parcel, false)).screen : null
    const others = [...parcel.trusted()]
    return {
      version: await describeVersion(parcel, wanted, this.home),
      path,
      isRunning: isMachine,
      screen,
      heard: others.filter((host) => heard.has(host)).map((host) => parcel.hostName(host)),
      silent: others.filter((host) => !heard.has(host)).map((host) => parcel.hostName(host))
    }
  }

  /** The version to resume. Throws CONFLICT for several heads, UNREACHABLE when none has arrived. */
  async #choose(
    parcel: Parcel,
    version: string | undefined,
    timeout: number,
    work: Work
  ): Promise<Known> {
    await parcel.waitForVersion({ timeout, signal: work.signal })
    if (version !== undefined) return parcel.history.resolve(version)
    // To take an older version in its place would fork the history without a word.
    if (parcel.newerFormat !== null) throw parcel.newerFormat
    const [head, ...others] = parcel.history.heads()
    if (head === undefined) {
      throw new ParcelError(
        'UNKNOWN_VERSION',
        `"${parcel.name}" has no version yet: suspend it first`
      )
    }
    if (others.length === 0) return head
    const ids = [head, ...others].map(({ id }) => id.toString('hex', 0, 6)).join(', ')
    throw new ParcelError(
      'CONFLICT',
      `two hosts went on from one version: choose with --version one of ${ids}`
    )
  }

  /** Refuses to overwrite a folder that is not this parcel's, or that has what no version has. */
  async #requireWritable(
    parcel: Parcel,
    driver: Driver,
    path: string,
    force: boolean
  ): Promise<void> {
    if (overlaps(this.home.dir, path)) {
      throw new ParcelError('USAGE', `cannot resume into the home folder ${this.home.dir}`)
    }
    for (const other of this.#parcels) {
      if (other === parcel || other.path === null) continue
      if (overlaps(await realDestination(other.path), path)) {
        throw new ParcelError('CONFLICT', `${path} belongs to the parcel "${other.name}"`)
      }
    }
    if ((await namesIn(path)).length === 0) return
    if (parcel.path === null || (await realDestination(parcel.path)) !== path) {
      throw new ParcelError('CONFLICT', `${path} is not empty: choose another folder`)
    }
    if (force) return
    const base = parcel.baseVersion()
    await requireNoChanges(path, base === null ? null : parcel.contents(base), {
      name: parcel.name,
      isState: (file) =>
        driver.statePaths.length > 0 &&
        (file === 'state' || file.startsWith('state/') || file.startsWith(CONSOLE_LOG))
    })
  }

  /** Whether the folder's version holds a stopped guest that has not gone on here since. */
  async #isSuspended(parcel: Parcel, driver: Driver): Promise<boolean> {
    if (driver.statePaths.length === 0 || parcel.isStarted) return false
    const base = parcel.baseVersion()
    if (base === null) return false
    for await (const { entry } of parcel.contents(base)) {
      if (driver.statePaths.includes(entry.path.toString())) return true
    }
    return false
  }

  async #requireStopped(parcel: Parcel): Promise<void> {
    if ((await this.#machine(parcel).status()) === null) return
    throw new ParcelError('RUNNING', `"${parcel.name}" is running here: suspend or stop it first`)
  }

  async #describe(parcel: Parcel): Promise<ParcelInfo> {
    const machine = this.#machine(parcel)
    return describeParcel(parcel, {
      home: this.home,
      peers: this.#swarm.peers(parcel),
      machine: await machine.status(),
      lastWords: await machine.lastWords()
    })
  }

  #joinReply(parcel: Parcel): JoinReply {
    const { epoch, epochKey, controlKey } = parcel.keyring.current
    if (epochKey === null) throw new ParcelError('BAD_KEY', 'a vault cannot invite')
    return {
      parcel: parcel.id,
      name: parcel.name,
      driver: parcel.driver,
      inviter: this.home.identity.publicKey,
      inviterName: this.name,
      epoch,
      epochKey,
      controlKey,
      announcement: parcel.ownAnnouncement()
    }
  }

  #share(parcel: Parcel): void {
    this.#parcels.push(parcel)
    this.#swarm.share(parcel)
  }

  #parcel(name: string): Parcel {
    const parcel = this.#parcels.find((each) => each.name === name)
    if (parcel !== undefined) return parcel
    const failure = this.#unopened.get(name)
    if (failure !== undefined) throw failure
    throw new ParcelError('UNKNOWN_PARCEL', `no parcel "${name}" here: see 'hyperparcel ls'`)
  }

  #requireFree(name: string): void {
    if (!this.#parcels.some((parcel) => parcel.name === name) && !this.#unopened.has(name)) return
    throw new ParcelError(
      'NAME_TAKEN',
      `there is a parcel "${name}" here already: choose another name`
    )
  }

  /** A name from another host is taken only if it could have been given here. */
  #freeName(wanted: string): string {
    const name = isName(wanted) ? wanted : 'parcel'
    let free = name
    for (let n = 2; this.#parcels.some((parcel) => parcel.name === free); n++) free = `${name}-${n}`
    return free
  }

  #runDir(parcel: Parcel): string {
    return join(this.home.dir, 'run', parcel.id.toString('hex', 0, 8))
  }

  #machine(parcel: Parcel): MachineProcess {
    return new MachineProcess(this.#runDir(parcel))
  }
}

async function requireFolder(path: string): Promise<string> {
  try {
    const real = await realpath(path)
    if ((await lstat(real)).isDirectory()) return real
  } catch (error) {
    throw new ParcelError('USAGE', `no folder ${path}`, error)
  }
  throw new ParcelError('USAGE', `${path} is not a folder`)
}

function requirePath(parcel: Parcel): string {
  if (parcel.path !== null) return parcel.path
  throw new ParcelError('CONFLICT', `"${parcel.name}" has no folder here yet: resume it first`)
}
