import { cp, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { WorkerPool } from '../../lib/chunk/worker-pool.js'
import { Identity } from '../../lib/keys/identity.js'
import type { ParcelContext } from '../../lib/parcel/context.js'
import type { Known } from '../../lib/parcel/history.js'
import { loadStates } from '../../lib/parcel/local-state.js'
import { Parcel } from '../../lib/parcel/parcel.js'
import type { ParcelChannel } from '../../lib/swarm/channel.js'
import { openContext, WORK } from '../parcel/parcels.js'

/** Contents of a folder, by file. */
export type Files = ReadonlyMap<string, Buffer>

const COPIED = ['store', 'index', 'parcels'] as const

/** A crash to come: at which flush of the store, and whether that is done first. */
interface Crash {
  flushes: number
  isFlushed: boolean
  happened: () => void
}

/** A host of a simulation: real stores and parcels, a clock of its own, and no network but the simulated one. */
export class SimulatedHost {
  readonly name: string
  readonly identity = Identity.create()
  readonly folder: string
  /** By the other host, in hex. */
  readonly channels = new Map<string, ParcelChannel>()
  /** What its clock is wrong by, ms. */
  skew = 0
  files: Files = new Map()
  readonly #dir: string
  readonly #pool: WorkerPool
  #home: string
  #homes = 0
  #context: ParcelContext | null = null
  #parcel: Parcel | null = null
  #crash: Crash | null = null
  #hasCopy = false

  constructor(name: string, dir: string, pool: WorkerPool) {
    this.name = name
    this.#dir = dir
    this.#pool = pool
    this.folder = join(dir, 'folder')
    this.#home = join(dir, 'home-0')
  }

  /** In hex. */
  get id(): string {
    return this.identity.publicKey.toString('hex')
  }

  get isUp(): boolean {
    return this.#parcel !== null
  }

  get parcel(): Parcel {
    if (this.#parcel === null) throw new Error(`${this.name} is off`)
    return this.#parcel
  }

  trusts(other: SimulatedHost): boolean {
    return this.#parcel?.peers.trusted().has(other.id) === true
  }

  async create(): Promise<void> {
    await this.#prepare()
    this.#own(
      await Parcel.create(await this.#open(), { name: 'p', driver: 'folder', path: this.folder })
    )
  }

  /** Becomes a member of another host's parcel. */
  async join(by: SimulatedHost): Promise<void> {
    await this.#prepare()
    await by.parcel.admission.admit(this.identity.publicKey, 'owner')
    const { parcel } = by
    const { current } = parcel.keyring
    this.#own(
      await Parcel.join(await this.#open(), {
        ...current,
        id: parcel.id,
        name: 'p',
        driver: 'folder',
        announcements: parcel.peers.introductions()
      })
    )
  }

  async start(): Promise<void> {
    const context = await this.#open()
    const [state] = await loadStates(context.stateDir, this.identity.atRest)
    if (state === undefined) throw new Error(`${this.name} has no parcel`)
    this.#own(await Parcel.load(context, state))
  }

  async stop(): Promise<void> {
    const parcel = this.#parcel
    this.#parcel = null
    for (const channel of this.channels.values()) channel.stop()
    this.channels.clear()
    await parcel?.close()
    await this.#close()
  }

  /** Stores its folder as a version. */
  async commit(): Promise<Known> {
    const what = { path: this.folder, exclude: () => false, facts: {}, message: '', compress: true }
    const { version } = await this.parcel.author.commit({ ...what, roles: {} }, WORK)
    return version
  }

  async checkOut(known: Known): Promise<void> {
    const how = { served: null, beforeSwap: async (): Promise<void> => {} }
    await this.parcel.files.checkOut(known, this.folder, how, WORK)
  }

  /** Writes a file into its folder. */
  async write(name: string, bytes: Buffer): Promise<void> {
    await mkdir(this.folder, { recursive: true })
    await writeFile(join(this.folder, name), bytes)
    this.files = new Map(this.files).set(name, bytes)
  }

  /**
   * Runs work during which the host dies, at the so many-th flush of its store: what was under way then
   * stays as it is for ever. Settles when it is dead, or the work has ended before.
   */
  async dieDuring(work: () => Promise<unknown>, how: Omit<Crash, 'happened'>): Promise<void> {
    const died = new Promise<void>((resolve) => {
      this.#crash = { ...how, happened: resolve }
    })
    // What fails of it fails for nobody.
    const ended = work().catch(() => {})
    await Promise.race([died, ended])
    await this.die()
  }

  /** As a process that is killed: nothing is closed in order. */
  async die(): Promise<void> {
    const [context, parcel] = [this.#context, this.#parcel]
    this.#crash = { flushes: 0, isFlushed: false, happened: () => {} }
    this.#parcel = null
    // It would go on looking for what it lacks, and write nothing.
    void parcel?.hoard.close()
    for (const channel of this.channels.values()) channel.stop()
    this.channels.clear()
    this.#context = null
    await context?.index.close()
    await context?.store.close()
    // What goes on of it in this process writes to a home that is not there.
    const before = this.#home
    this.#home = join(this.#dir, `home-${++this.#homes}`)
    await rename(before, this.#home)
    this.#crash = null
  }

  /** Copies the home of a host that is off. */
  async keepCopy(): Promise<void> {
    const to = join(this.#dir, 'copy')
    await rm(to, { recursive: true, force: true })
    for (const name of COPIED) {
      await cp(join(this.#home, name), join(to, name), { recursive: true })
    }
    this.#hasCopy = true
  }

  /**
   * Puts a copy back, of the whole home or of its store alone, as a backup tool does that writes into the
   * same file system; false: there is none.
   */
  async putBack({ isWhole }: { isWhole: boolean }): Promise<boolean> {
    if (!this.#hasCopy) return false
    for (const name of isWhole ? COPIED : (['store'] as const)) {
      const dir = join(this.#home, name)
      for (const file of await readdir(dir)) {
        if (file !== 'CORESTORE') await rm(join(dir, file), { recursive: true })
      }
      const filter = (path: string): boolean => !path.endsWith('/CORESTORE')
      await cp(join(this.#dir, 'copy', name), dir, { recursive: true, filter })
    }
    return true
  }

  #own(parcel: Parcel): void {
    this.#parcel = parcel
    parcel.synthesis.answerers = () =>
      [...this.channels.values()].flatMap((channel) =>
        channel.isReady && !channel.questions.isSilent ? [channel.questions] : []
      )
  }

  async #prepare(): Promise<void> {
    await mkdir(join(this.#home, 'parcels'), { recursive: true })
    await mkdir(this.folder, { recursive: true })
  }

  async #open(): Promise<ParcelContext> {
    const clock = (): number => Date.now() + this.skew
    const context = await openContext(this.#home, this.identity, clock, this.#pool)
    const { store } = context
    const flush = store.flush.bind(store)
    store.flush = async () => {
      // Of a dead host nothing goes on.
      if (this.#context !== context) return new Promise(() => {})
      const crash = this.#crash
      if (crash === null || --crash.flushes > 0) return flush()
      if (crash.isFlushed) await flush()
      crash.happened()
      return new Promise(() => {})
    }
    this.#context = context
    return context
  }

  async #close(): Promise<void> {
    const context = this.#context
    this.#context = null
    await context?.lookaside.close()
    await context?.index.close()
    await context?.store.close()
  }
}
