import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import NoiseSecretStream from '@hyperswarm/secret-stream'
import { WorkerPool } from '../../../lib/chunk/worker-pool.js'
import { createHome, type Home } from '../../../lib/home.js'
import { ChunkIndex } from '../../../lib/log/chunk-index.js'
import { Quota } from '../../../lib/log/quota.js'
import { RateLimit } from '../../../lib/log/rate-limit.js'
import { Store } from '../../../lib/log/store.js'
import { Lookaside } from '../../../lib/parcel/fetch/lookaside.js'
import type { ParcelContext } from '../../../lib/parcel/context.js'
import { Parcel } from '../../../lib/parcel/parcel.js'
import { Traffic } from '../../../lib/traffic.js'

const WORK = { report() {}, note() {}, signal: new AbortController().signal }

/** A host with a home and no network: its parcels are in memory and on disk, nobody else knows. */
export class Member {
  readonly home: Home
  readonly #context: ParcelContext
  readonly parcels: Parcel[] = []

  private constructor(home: Home, context: ParcelContext) {
    this.home = home
    this.#context = context
  }

  static async create(dir: string, name: string): Promise<Member> {
    const home = await createHome(join(dir, name), name)
    const { identity } = home
    const index = await ChunkIndex.open(join(home.dir, 'index'), identity.index)
    const context = {
      store: await Store.open(join(home.dir, 'store')),
      index,
      lookaside: new Lookaside(index),
      pool: new WorkerPool(),
      identity,
      hostName: name,
      stateDir: join(home.dir, 'parcels'),
      clock: Date.now,
      traffic: new Traffic(),
      down: new RateLimit(),
      downOf: () => new RateLimit(),
      sending: (_: string, send: () => Promise<void>) => send(),
      isNear: () => true,
      isSuspect: false,
      quota: new Quota(join(home.dir, 'store'), Infinity)
    }
    return new Member(home, context)
  }

  /** A new parcel of this host, which lets the others in. */
  async found(name: string, dir: string, others: readonly Member[]): Promise<Parcel> {
    const path = await aFolder(dir, `${name}-${this.home.name}`)
    const parcel = await Parcel.create(this.#context, { name, driver: 'folder', path })
    this.parcels.push(parcel)
    for (const { home } of others) await parcel.admission.admit(home.identity.publicKey, 'runner')
    return parcel
  }

  /** Joins a parcel as an invite would have it. */
  async join(parcel: Parcel): Promise<Parcel> {
    const keys = parcel.keyring.current
    const { id, name, driver } = parcel
    const announcements = [parcel.peers.ownAnnouncement()]
    const fields = { id, name, driver, ...keys, announcements }
    const joined = await Parcel.join(this.#context, fields)
    this.parcels.push(joined)
    return joined
  }

  async commit(parcel: Parcel, dir: string): Promise<void> {
    const path = await aFolder(dir, `${parcel.name}-${this.home.name}`)
    const exclude = (): boolean => false
    const what = { path, roles: {}, exclude, facts: {}, message: '', compress: true }
    await parcel.author.commit(what, WORK)
  }

  async close(): Promise<void> {
    for (const parcel of this.parcels) await parcel.close()
    await this.#context.pool.close()
    await this.#context.index.close()
    await this.#context.store.close()
  }
}

/** Replicates a parcel between two of its members until the first has all that the second wrote. */
export async function bring(from: Parcel, to: Parcel): Promise<void> {
  const a = new NoiseSecretStream(true)
  const b = new NoiseSecretStream(false)
  a.rawStream.pipe(b.rawStream).pipe(a.rawStream)
  for (const stream of [a, b]) stream.on('error', () => {})
  await to.peers.announce([from.peers.ownAnnouncement()])
  const replicated = new Set<string>()
  const replicate = (): void => {
    for (const [parcel, stream] of [
      [from, a],
      [to, b]
    ] as const) {
      for (const log of parcel.logs()) {
        const name = `${log.key.toString('hex')} ${parcel === from}`
        if (!replicated.has(name)) log.replicate(stream)
        replicated.add(name)
      }
    }
  }
  for (;;) {
    replicate()
    const wanted = from.logs().filter(({ isOwn }) => isOwn)
    const isWhole = wanted.every(({ key, length }) => {
      const here = to.logs().find((log) => log.key.equals(key))
      return here !== undefined && here.contiguousLength >= length
    })
    if (isWhole) break
    await setTimeout(5)
  }
  a.destroy()
  b.destroy()
}

/** A few kilobytes that no other folder has. */
async function aFolder(dir: string, name: string): Promise<string> {
  const path = join(dir, name)
  await mkdir(path, { recursive: true })
  await writeFile(join(path, 'notes'), `${name}\n`.repeat(500))
  return path
}
