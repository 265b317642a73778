import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { WorkerPool } from '../../lib/chunk/worker-pool.js'
import { ParcelError } from '../../lib/errors.js'
import { requireHead } from '../../lib/parcel/head.js'
import type { Known } from '../../lib/parcel/history.js'
import { branchName } from '../../lib/parcel/history.js'
import { WORK } from '../parcel/parcels.js'
import { randomFrom, type Random } from '../support/random.js'
import { SimulatedHost, type Files } from './host.js'
import { Network } from './network.js'

const NAMES = ['laptop', 'desk', 'office', 'train', 'attic']
const TEN_YEARS = 10 * 365 * 86_400_000
/** All hosts are to agree so long after everything is connected, ms of the simulation's time. */
const PATIENCE = 1_200_000
/** What a user is told, and may try again: nothing else may go wrong. */
const REFUSALS = new Set([
  'CONFLICT',
  'UNREACHABLE',
  'LEASE_HELD',
  'RUNNING',
  'UNKNOWN_VERSION',
  'NAME_TAKEN',
  'TOO_FEW_COPIES',
  'CANCELLED'
])

interface Operation {
  name: string
  weight: number
  run: (host: SimulatedHost) => Promise<void>
}

/**
 * Five hosts of one parcel that work, go on beside each other, forget, die, are put back to earlier states
 * and have wrong clocks, while the network between them comes apart. What a host has acknowledged must
 * stay, and once all are connected they must agree.
 */
export class World {
  readonly #random: Random
  readonly #dir: string
  readonly #pool = new WorkerPool()
  readonly #network = new Network()
  readonly #hosts: readonly SimulatedHost[]
  /** Contents of versions that were acknowledged, by id in hex. */
  readonly #acknowledged = new Map<string, Files>()
  /** Versions of which nobody else had all when their host was put back to before them. */
  readonly #gone = new Set<string>()
  /** Versions that a prune was allowed to take off some host. */
  readonly #pruned = new Set<string>()
  /** Versions that a user has chosen, knowing of others. */
  readonly #chosen = new Set<string>()
  readonly counts = new Map<string, number>()

  private constructor(seed: number, dir: string) {
    this.#random = randomFrom(seed)
    this.#dir = dir
    this.#hosts = NAMES.map((name) => new SimulatedHost(name, join(dir, name), this.#pool))
  }

  /** Runs so many operations in `dir` and checks what came of them. Returns how often what was done. */
  static async run(seed: number, steps: number, dir: string): Promise<Map<string, number>> {
    const world = new World(seed, await mkdtemp(join(dir, 'world-')))
    try {
      await world.#begin()
      for (let step = 0; step < steps; step++) await world.#step()
      await world.#settle()
      await world.#check()
    } catch (error) {
      throw new Error(`seed ${seed}: ${world.#describe()}`, { cause: error })
    } finally {
      for (const host of world.#hosts) await host.stop().catch(() => {})
      await world.#network.update(world.#hosts)
      await world.#pool.close()
      await rm(world.#dir, { recursive: true, force: true, maxRetries: 3 })
    }
    return world.counts
  }

  async #begin(): Promise<void> {
    const [first, ...others] = this.#hosts
    if (first === undefined) throw new Error('a world of nobody')
    await first.create()
    await first.write('base', this.#bytes(200_000))
    await this.#commit(first)
    for (const host of others) await host.join(first)
    for (const { parcel } of this.#hosts) await parcel.settings.setCopies(1 + this.#random(2))
    await this.#agree()
    // Half of the worlds know leases.
    if (this.#random(2) === 0) await first.parcel.leases.begin()
  }

  async #step(): Promise<void> {
    await this.#network.update(this.#hosts)
    const host = this.#pick(this.#hosts)
    const total = this.#operations.reduce((sum, { weight }) => sum + weight, 0)
    let dice = this.#random(total)
    const operation = this.#operations.find(({ weight }) => (dice -= weight) < 0)
    if (operation === undefined) return
    if (!host.isUp) {
      if (this.#random(3) === 0) await host.start()
      return
    }
    // Some things are done at the same time elsewhere.
    const other = this.#pick(this.#hosts)
    const isBoth = other !== host && other.isUp && this.#random(4) === 0
    const both = [this.#try(operation.name, () => operation.run(host))]
    if (isBoth) both.push(this.#try('suspend', () => this.#work(other)))
    await Promise.all(both)
    // Something may come over the wires, or not yet.
    if (this.#random(2) === 0) await setTimeout(this.#random(2_000))
  }

  readonly #operations: readonly Operation[] = [
    { name: 'suspend', weight: 30, run: (host) => this.#work(host) },
    { name: 'resume', weight: 12, run: (host) => this.#resume(host) },
    { name: 'resolve', weight: 5, run: (host) => this.#resolve(host) },
    { name: 'rollback', weight: 3, run: (host) => this.#goBack(host) },
    { name: 'tag', weight: 3, run: (host) => this.#tag(host) },
    { name: 'prune', weight: 5, run: (host) => this.#prune(host) },
    { name: 'rotate', weight: 1, run: (host) => host.parcel.admission.rotate() },
    { name: 'lease', weight: 5, run: (host) => this.#lease(host) },
    { name: 'off', weight: 4, run: (host) => host.stop() },
    { name: 'kill', weight: 5, run: (host) => this.#kill(host) },
    { name: 'copy', weight: 3, run: (host) => this.#copy(host) },
    { name: 'put back', weight: 3, run: (host) => this.#putBack(host) },
    { name: 'clock', weight: 2, run: async (host) => this.#turnClock(host) },
    { name: 'part', weight: 4, run: async () => this.#comeApart() },
    {
      name: 'one way',
      weight: 4,
      run: async (host) => this.#network.block(host, this.#pick(this.#hosts))
    },
    {
      name: 'cut',
      weight: 3,
      run: async (host) => this.#network.cut(host, this.#pick(this.#hosts))
    },
    { name: 'heal', weight: 5, run: async () => this.#network.heal() }
  ]

  /** Runs an operation; what a user would be told and could do again is no failure. */
  async #try(name: string, run: () => Promise<void>): Promise<void> {
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1)
    try {
      await run()
    } catch (error) {
      const isRefusal =
        error instanceof ParcelError &&
        (REFUSALS.has(error.code) || error.message.includes('in new logs meanwhile: do it again'))
      if (!isRefusal) throw new Error(`${name} failed`, { cause: error })
      this.counts.set(error.code, (this.counts.get(error.code) ?? 0) + 1)
    }
  }

  async #work(host: SimulatedHost): Promise<void> {
    await host.write(`file-${this.#random(4)}`, this.#bytes(1 + this.#random(20_000)))
    await this.#commit(host)
  }

  async #commit(host: SimulatedHost): Promise<void> {
    const { files } = host
    const { id } = await host.commit()
    this.#acknowledged.set(id.toString('hex'), files)
  }

  async #resume(host: SimulatedHost): Promise<void> {
    const { history, availability } = host.parcel
    const heads = history.heads()
    const known = this.#random(3) === 0 ? this.#pick(heads) : requireHead(host.parcel)
    if (heads.length > 1) this.#choose(host, known.id)
    await availability.requireHere(known)
    await host.checkOut(known)
    host.files = this.#acknowledged.get(known.id.toString('hex')) ?? (await filesIn(host.folder))
  }

  async #resolve(host: SimulatedHost): Promise<void> {
    const { history, author } = host.parcel
    const heads = history.heads()
    if (heads.length < 2) return
    const known = this.#pick(heads)
    const branch = branchName(known.version)
    const parents = heads.slice(0, 16).map(({ id }) => id)
    for (const id of parents) this.#choose(host, id)
    const [made] = await author.takeOver([{ known, parents, branch, message: 'settled' }])
    this.#takenOver(known, made)
  }

  async #goBack(host: SimulatedHost): Promise<void> {
    const { history, author } = host.parcel
    const known = this.#pick(history.list())
    const head = requireHead(host.parcel)
    this.#choose(host, head.id)
    const how = { parents: [head.id], branch: branchName(head.version), message: 'back' }
    const [made] = await author.takeOver([{ known, ...how }])
    this.#takenOver(known, made)
  }

  #takenOver(known: Known, made: Known | undefined): void {
    const files = this.#acknowledged.get(known.id.toString('hex'))
    if (made === undefined) return
    const name = made.id.toString('hex')
    // Of what nobody has acknowledged nobody knows here what is in it; nor where it is any more.
    if (files !== undefined) this.#acknowledged.set(name, files)
    if (this.#gone.has(known.id.toString('hex'))) this.#gone.add(name)
    if (this.#pruned.has(known.id.toString('hex'))) this.#pruned.add(name)
  }

  async #tag(host: SimulatedHost): Promise<void> {
    const known = this.#pick(host.parcel.history.list())
    await host.parcel.author.tag(`tag-${this.#random(4)}`, known.id)
  }

  async #prune(host: SimulatedHost): Promise<void> {
    const { parcel } = host
    const chosen = parcel.history.list().filter(() => this.#random(2) === 0)
    await parcel.space.forget(chosen)
    const { dropped } = await parcel.space.prune({ timeout: 2_000 }, WORK)
    for (const { id } of dropped) this.#pruned.add(id.toString('hex'))
  }

  async #lease(host: SimulatedHost): Promise<void> {
    const { leases } = host.parcel
    if (leases.lease === null) return
    const dice = this.#random(10)
    if (dice === 0) await leases.end()
    else if (dice < 3) await leases.handOver(this.#pick(this.#hosts).id)
    else await leases.take({ timeout: 3_000, force: dice === 3 ? 'always' : 'never' }, WORK)
  }

  /** A host dies in the middle of something, and mostly comes back soon. */
  async #kill(host: SimulatedHost): Promise<void> {
    const how = { flushes: 1 + this.#random(4), isFlushed: this.#random(2) === 0 }
    const dice = this.#random(4)
    await host.dieDuring(async () => {
      if (dice === 0) await this.#prune(host)
      else if (dice === 1) await this.#resolve(host)
      else await this.#work(host)
    }, how)
    if (this.#random(3) > 0) await host.start()
  }

  async #copy(host: SimulatedHost): Promise<void> {
    await host.stop()
    await host.keepCopy()
    await host.start()
  }

  async #putBack(host: SimulatedHost): Promise<void> {
    // What nobody else has signed for may be gone with it, also a version that it could acknowledge to nobody.
    const others = this.#hosts.filter((other) => other !== host && other.isUp)
    const names = new Set(this.#acknowledged.keys())
    for (const { parcel } of [host, ...others]) {
      for (const { id } of parcel.history.all()) names.add(id.toString('hex'))
    }
    for (const name of names) {
      const id = Buffer.from(name, 'hex')
      const holders = await Promise.all(
        others.map(async ({ parcel, id: self }) => {
          const known = parcel.history.get(id)
          if (known === null || parcel.control.receipts.of(id, self).length === 0) return false
          return parcel.availability.isHere(known)
        })
      )
      if (!holders.includes(true)) this.#gone.add(name)
    }
    await host.stop()
    const isPut = await host.putBack({ isWhole: this.#random(2) === 0 })
    // A prune elsewhere may have relied on what was here.
    if (isPut) for (const name of this.#pruned) this.#gone.add(name)
    await host.start()
  }

  #turnClock(host: SimulatedHost): void {
    host.skew = (this.#random(3) - 1) * TEN_YEARS
  }

  #comeApart(): void {
    for (const host of this.#hosts) this.#network.parts.set(host, this.#random(3))
  }

  /** A version and what it continues were chosen by somebody who saw that there were others. */
  #choose(host: SimulatedHost, id: Buffer): void {
    const next = [id]
    for (let one = next.pop(); one !== undefined; one = next.pop()) {
      const name = one.toString('hex')
      if (this.#chosen.has(name)) continue
      this.#chosen.add(name)
      next.push(...(host.parcel.history.get(one)?.version.parents ?? []))
    }
  }

  /** Everything is on, connected, and has come to rest. */
  async #settle(): Promise<void> {
    this.#network.heal()
    for (const host of this.#hosts) if (!host.isUp) await host.start()
    await this.#agree()
  }

  /** Waits until all hosts say the same, and nothing is on its way. */
  async #agree(): Promise<void> {
    const deadline = performance.now() + PATIENCE
    for (;;) {
      await this.#network.update(this.#hosts)
      const views = this.#hosts.map((host) => this.#viewOf(host))
      const missing = this.#difference(views) ?? (await this.#missing())
      if (missing === null) return
      if (performance.now() > deadline) assert.fail(missing)
      await setTimeout(1_000)
    }
  }

  /** What a host says that all must say alike. */
  #viewOf({ parcel }: SimulatedHost): string[] {
    const { history, control } = parcel
    const named = (what: string, all: Iterable<Known>): string[] =>
      [...all].map(({ id }) => `${what} ${id.toString('hex', 0, 4)}`)
    return [
      ...named('version', history.all()),
      ...named('head', history.heads()),
      ...[...control.members.roles].map(([host, role]) => `${role} ${host.slice(0, 8)}`),
      ...history.tags.list().map(({ name, version }) => `${name} ${version.toString('hex', 0, 4)}`),
      `lease ${JSON.stringify(control.leases.current)}`
    ]
  }

  /** What some hosts say and others do not; null: nothing. */
  #difference(views: readonly (readonly string[])[]): string | null {
    const lines = new Map<string, string[]>()
    for (const [n, view] of views.entries()) {
      for (const line of view) {
        lines.set(line, [...(lines.get(line) ?? []), this.#hosts[n]?.name ?? ''])
      }
    }
    const differing = [...lines].filter(([, names]) => names.length < views.length)
    if (differing.length === 0) return null
    return differing.map(([line, names]) => `${line}: only ${names.join(', ')}`).join('\n')
  }

  /** What is not yet where it is to be; null when all is. */
  async #missing(): Promise<string | null> {
    for (const { name, parcel } of this.#hosts) {
      for (const known of parcel.history.all()) {
        const id = known.id.toString('hex')
        if (parcel.space.isForgotten(known) || this.#gone.has(id)) continue
        if (await parcel.availability.isHere(known)) continue
        const made = this.#acknowledged.has(id) ? 'acknowledged' : 'never acknowledged'
        return `${id.slice(0, 8)}, ${made}, is not on ${name}\n${this.#whereabouts(known.id)}`
      }
    }
    for (const id of this.#acknowledged.keys()) {
      if (this.#gone.has(id)) continue
      const holders = await Promise.all(
        this.#hosts.map(async ({ parcel }) => {
          const known = parcel.history.get(Buffer.from(id, 'hex'))
          return known !== null && (await parcel.availability.isHere(known))
        })
      )
      if (!holders.includes(true)) return `nobody has ${id.slice(0, 8)}`
    }
    return null
  }

  /** Which logs each host would read a version from, and how much it has of them. */
  #whereabouts(id: Buffer): string {
    const lines = this.#hosts.flatMap(({ name, parcel }) =>
      parcel.history.placements(id).flatMap(({ heads, host }) => {
        const said = `${name}, as ${parcel.hostName(host)} ${host.slice(0, 4)} says:`
        const logs = heads.map(({ key, length }) => {
          const log = parcel.logs().find((each) => each.key.equals(key))
          const has = log === undefined ? 'no log' : `${log.count(length)} of ${log.length}`
          return `${key.toString('hex', 0, 4)} up to ${length}: ${has}`
        })
        return [said, ...logs]
      })
    )
    const hosts = this.#hosts.map((host) => {
      const forgets = host.parcel.history.get(id)
      const isForgotten = forgets !== null && host.parcel.space.isForgotten(forgets)
      return `${host.name} is ${host.id.slice(0, 4)}${isForgotten ? ', and has forgotten it' : ''}`
    })
    return [...hosts, ...lines].join('\n')
  }

  async #check(): Promise<void> {
    // All that is said to be somewhere can be read there, and is what it was.
    for (const [n, host] of this.#hosts.entries()) {
      const { parcel } = host
      for (const [i, known] of parcel.history.list().entries()) {
        const files = this.#acknowledged.get(known.id.toString('hex'))
        const isHead = parcel.history.isHead(known.id)
        if (files === undefined || (!isHead && i % this.#hosts.length !== n)) continue
        if (!(await parcel.availability.isHere(known))) continue
        const to = join(this.#dir, 'restored')
        const beforeSwap = async (): Promise<void> => {}
        await parcel.files.restore(known, to, { paths: [], beforeSwap }, WORK)
        const read = await filesIn(to)
        assert.deepEqual([...read].toSorted(), [...files].toSorted(), known.id.toString('hex'))
        await rm(to, { recursive: true })
      }
    }
    const [host] = this.#hosts
    if (host === undefined) return
    // What nobody has chosen knowingly bears the number of a lease for one host alone.
    const authors = new Map<number, string>()
    const { history } = host.parcel
    for (const known of history.all()) {
      const { leaseEpoch, author } = known.version
      if (leaseEpoch === 0 || this.#chosen.has(known.id.toString('hex'))) continue
      if (history.isLapsed(known)) continue
      const by = authors.get(leaseEpoch) ?? author.toString('hex')
      assert.equal(author.toString('hex'), by, `two versions under lease ${leaseEpoch}`)
      authors.set(leaseEpoch, by)
    }
  }

  #bytes(length: number): Buffer {
    const bytes = Buffer.alloc(length)
    for (let at = 0; at < length; at++) bytes[at] = this.#random(256)
    return bytes
  }

  #pick<T>(all: readonly T[]): T {
    const one = all[this.#random(all.length)]
    if (one === undefined) throw new ParcelError('UNKNOWN_VERSION', 'nothing to choose from')
    return one
  }

  #describe(): string {
    const counts = [...this.counts].map(([name, count]) => `${name} ${count}`).join(', ')
    const problems = this.#hosts.flatMap((host) =>
      host.isUp ? host.parcel.problems.map((text) => `${host.name}: ${text}`) : []
    )
    return [counts, ...problems].join('\n')
  }
}

async function filesIn(dir: string): Promise<Map<string, Buffer>> {
  const files = new Map<string, Buffer>()
  await mkdir(dir, { recursive: true })
  for (const name of await readdir(dir)) files.set(name, await readFile(join(dir, name)))
  return files
}
