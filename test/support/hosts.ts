import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { Host, PrivateDht, type MemberRole } from '../../lib/index.js'
import { onEnd } from './on-end.js'
import { scratch } from './scratch.js'

/** A private DHT that goes away with the test. */
export async function testDht(t: TestContext): Promise<PrivateDht> {
  const dht = await PrivateDht.start()
  onEnd(t, () => dht.stop())
  return dht
}

/** A network of hosts in this process, each with a real store, on real DHT nodes on loopback. */
export class TestHosts {
  readonly dir: string
  readonly dht: PrivateDht
  readonly #hosts = new Map<string, Host>()

  private constructor(dir: string, dht: PrivateDht) {
    this.dir = dir
    this.dht = dht
  }

  static async start(t: TestContext): Promise<TestHosts> {
    const dir = await scratch(t)
    const hosts = new TestHosts(dir, await testDht(t))
    onEnd(t, () => hosts.close())
    return hosts
  }

  home(name: string): string {
    return join(this.dir, 'homes', name)
  }

  async create(name: string, clock: () => number = Date.now): Promise<Host> {
    const host = await Host.create({
      home: this.home(name),
      name,
      bootstrap: this.dht.address,
      clock
    })
    this.#hosts.set(name, host)
    return host
  }

  get(name: string): Host | undefined {
    return this.#hosts.get(name)
  }

  async open(name: string, clock: () => number = Date.now): Promise<Host> {
    const host = await Host.open({ home: this.home(name), bootstrap: this.dht.address, clock })
    this.#hosts.set(name, host)
    return host
  }

  /** Switches a host off; `open` brings it back. */
  async stop(name: string): Promise<void> {
    const host = this.#hosts.get(name)
    this.#hosts.delete(name)
    await host?.close()
  }

  async close(): Promise<void> {
    for (const name of this.#hosts.keys()) await this.stop(name)
  }
}

/** Two hosts of the parcel `p`: its folder is on the first, and its first version, `first` in one file, on both. */
export async function twoHosts(
  t: TestContext,
  {
    names = ['desk', 'laptop'],
    role = 'runner'
  }: { names?: [string, string]; role?: MemberRole } = {}
): Promise<{ hosts: TestHosts; one: Host; other: Host; folder: string }> {
  const hosts = await TestHosts.start(t)
  const one = await hosts.create(names[0])
  const folder = join(hosts.dir, 'folder')
  await mkdir(folder)
  await writeFile(join(folder, 'file'), 'first')
  await one.add(folder, { name: 'p', vm: 'folder' })
  await one.suspend('p')
  const other = await hosts.create(names[1])
  await other.join((await one.invite('p', { role })).invite)
  await eventually(async () => (await other.status('p')).heads[0]?.isHere || null, 'the first')
  return { hosts, one, other, folder }
}

/** Waits until `check` gives something other than null; it is an error after `limit` ms. */
export async function eventually<T>(
  check: () => Promise<T | null> | T | null,
  what: string,
  limit = 30_000
): Promise<T> {
  const deadline = performance.now() + limit
  for (;;) {
    const value = await check()
    if (value !== null) return value
    if (performance.now() > deadline) throw new Error(`${what}: not within ${limit} ms`)
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
}
