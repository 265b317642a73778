import assert from 'node:assert/strict'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { WorkerPool } from '../../lib/chunk/worker-pool.js'
import { openHome } from '../../lib/index.js'
import { Identity } from '../../lib/keys/identity.js'
import { ChunkIndex } from '../../lib/log/chunk-index.js'
import type { Log } from '../../lib/log/log.js'
import { Quota } from '../../lib/log/quota.js'
import { RateLimit } from '../../lib/log/rate-limit.js'
import { Store } from '../../lib/log/store.js'
import type { Known } from '../../lib/parcel/history.js'
import { loadStates } from '../../lib/parcel/local-state.js'
import { Lookaside } from '../../lib/parcel/fetch/lookaside.js'
import type { ParcelContext } from '../../lib/parcel/context.js'
import type { CommitRequest } from '../../lib/parcel/commit/new-version.js'
import { Parcel } from '../../lib/parcel/parcel.js'
import type { Work } from '../../lib/progress.js'
import { Traffic } from '../../lib/traffic.js'
import { onEnd } from '../support/on-end.js'
import { scratch } from '../support/scratch.js'

export const WORK: Work = { report() {}, note() {}, signal: new AbortController().signal }

/** A host without a network, with one parcel of which `folder` is the folder. */
export class TestParcel {
  readonly dir: string
  readonly home: string
  readonly folder: string
  readonly identity = Identity.create()
  #context: ParcelContext | null = null
  #parcel: Parcel | null = null
  #other: Parcel | null = null
  #time = 1_000

  private constructor(dir: string) {
    this.dir = dir
    this.home = join(dir, 'home')
    this.folder = join(dir, 'folder')
  }

  static async create(t: TestContext): Promise<TestParcel> {
    const test = new TestParcel(await scratch(t))
    onEnd(t, () => test.close())
    await mkdir(join(test.home, 'parcels'), { recursive: true })
    await mkdir(test.folder)
    const fields = { name: 'p', driver: 'folder', path: test.folder }
    test.#parcel = await Parcel.create(await test.#open(), fields)
    return test
  }

  get parcel(): Parcel {
    if (this.#parcel === null) throw new Error('closed')
    return this.#parcel
  }

  /** A second parcel of the same host, until it is closed. */
  async other(): Promise<Parcel> {
    const context = this.#context
    if (context === null) throw new Error('closed')
    const fields = { name: 'other', driver: 'folder', path: null }
    this.#other = await Parcel.create(context, fields)
    return this.#other
  }

  async close(): Promise<void> {
    const context = this.#context
    this.#context = null
    await this.#other?.close()
    this.#other = null
    await this.#parcel?.close()
    this.#parcel = null
    if (context !== null) await closeContext(context)
  }

  /** What a restart of the host does. */
  async reopen(): Promise<Parcel> {
    await this.close()
    const context = await this.#open()
    const [state] = await loadStates(context.stateDir, context.identity.atRest)
    if (state === undefined) throw new Error('no parcel')
    this.#parcel = await Parcel.load(context, state)
    return this.#parcel
  }

  async commit(
    work: Partial<Work> = {},
    path = this.folder,
    how: Pick<CommitRequest, 'scan' | 'dirty' | 'roles'> = { roles: {} }
  ): Promise<Known> {
    const what = { path, exclude: () => false, facts: {}, message: '', compress: true, ...how }
    const { version } = await this.parcel.author.commit(what, { ...WORK, ...work })
    return version
  }

  async checkOut(known: Known, to: string, work: Partial<Work> = {}): Promise<void> {
    const how = { served: null, beforeSwap: async (): Promise<void> => {} }
    await this.parcel.files.checkOut(known, to, how, { ...WORK, ...work })
  }

  /** The `data` logs that this host writes, or has written. */
  data(): Log[] {
    return this.parcel.logs().filter(({ kind }) => kind === 'data')
  }

  async #open(): Promise<ParcelContext> {
    this.#context = await openContext(this.home, this.identity, () => this.#time++)
    return this.#context
  }
}

/** A parcel of a host that is off: what other software than ours could write there. */
export async function inParcel(
  home: string,
  name: string,
  work: (parcel: Parcel) => Promise<void>
): Promise<void> {
  const { identity } = await openHome(home)
  const context = await openContext(home, identity, Date.now)
  let parcel: Parcel | null = null
  try {
    const states = await loadStates(context.stateDir, identity.atRest)
    const state = states.find((state) => state.name === name)
    assert.ok(state)
    parcel = await Parcel.load(context, state)
    await work(parcel)
    await context.store.flush()
  } finally {
    await parcel?.close()
    await closeContext(context)
  }
}

/** What a host lends to its parcels, without a host. */
export async function openContext(
  home: string,
  identity: Identity,
  clock: () => number,
  pool = new WorkerPool()
): Promise<ParcelContext> {
  const store = await Store.open(join(home, 'store'))
  const index = await ChunkIndex.open(join(home, 'index'), identity.index)
  return {
    store,
    index,
    pool,
    lookaside: new Lookaside(index),
    identity,
    hostName: 'here',
    stateDir: join(home, 'parcels'),
    clock,
    traffic: new Traffic(),
    down: new RateLimit(),
    downOf: () => new RateLimit(),
    sending: (_: string, send: () => Promise<void>) => send(),
    isNear: () => true,
    isSuspect: false,
    quota: new Quota(join(home, 'store'), Infinity)
  }
}

export async function closeContext({
  lookaside,
  index,
  store,
  pool
}: ParcelContext): Promise<void> {
  await lookaside.close()
  await index.close()
  await store.close()
  await pool.close()
}
