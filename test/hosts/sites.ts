import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { addNamespace, deleteNamespace } from './namespaces.js'
import type { Shape } from './test-network.js'

const WIRE = fileURLToPath(new URL('../../../test/hosts/wire.pl', import.meta.url))

const CORE = '10.79.255.1'

/** A network of some hosts on one switch, and the wire that leads out of it. */
export interface Site {
  hosts: number
  wire: Shape
}

/**
 * Sites with hosts on a switch each, and a router whose wire of some shape leads to all others: what crosses
 * between two sites goes over both wires. Needs root, ip, ethtool, perl.
 */
export class Sites {
  readonly #name: string
  readonly #sites: readonly Site[]
  readonly #wires: ChildProcess[]

  private constructor(name: string, sites: readonly Site[], wires: ChildProcess[]) {
    this.#name = name
    this.#sites = sites
    this.#wires = wires
  }

  static async create(sites: readonly Site[]): Promise<Sites> {
    const name = `hs${process.pid}`
    const wires: ChildProcess[] = []
    const all = new Sites(name, sites, wires)
    try {
      addRouter(`${name}-core`)
      ip('-n', `${name}-core`, 'addr', 'add', `${CORE}/32`, 'dev', 'lo')
      for (const [n, { hosts, wire }] of sites.entries()) {
        const router = `${name}-r${n}`
        addRouter(router)
        wires.push(await stretch(name, n, wire))
        ip('-n', router, 'route', 'add', 'default', 'via', `10.79.${n}.1`)
        const to = [`10.8${n}.0.0/24`, 'via', `10.79.${n}.2`, 'src', CORE]
        ip('-n', `${name}-core`, 'route', 'add', ...to)
        ip('-n', router, 'link', 'add', 'switch', 'type', 'bridge')
        ip('-n', router, 'addr', 'add', `10.8${n}.0.1/24`, 'dev', 'switch')
        ip('-n', router, 'link', 'set', 'dev', 'switch', 'up')
        for (let host = 0; host < hosts; host++) plugIn(name, n, host)
      }
      return all
    } catch (error) {
      await all.close()
      throw error
    }
  }

  /** Address of a host of a site. */
  address(site: number, host: number): string {
    return `10.8${site}.0.${10 + host}`
  }

  /** Address of what is between all sites, the same for each of them. */
  readonly core = CORE

  /** What to put before a program so that it runs on a host. */
  on(site: number, host: number): [string, ...string[]] {
    return ['ip', 'netns', 'exec', `${this.#name}-${site}-${host}`]
  }

  /** What to put before a program so that it runs between all sites. */
  get between(): [string, ...string[]] {
    return ['ip', 'netns', 'exec', `${this.#name}-core`]
  }

  /** Bytes that crossed the wire of a site, both ways, with all headers. */
  crossed(site: number): number {
    const of = (way: string): number =>
      Number(
        execFileSync('ip', [
          'netns',
          'exec',
          `${this.#name}-r${site}`,
          'cat',
          `/sys/class/net/out/statistics/${way}_bytes`
        ])
      )
    return of('rx') + of('tx')
  }

  /** Lets nothing pass between two sites; both reach all others. */
  part(one: number, other: number): void {
    for (const [here, there] of [
      [one, other],
      [other, one]
    ]) {
      ip('-n', `${this.#name}-r${here}`, 'route', 'add', 'blackhole', `10.8${there}.0.0/24`)
    }
  }

  /** Cuts the wire of a site, or joins it again. */
  cut(site: number, isCut: boolean): void {
    this.#wires[site]?.kill(isCut ? 'SIGUSR1' : 'SIGUSR2')
  }

  /** Makes the wire of a site as slow as its shape says, for good. */
  slowDown(site: number): void {
    this.#wires[site]?.kill('SIGHUP')
  }

  /** Ends the wires and takes the namespaces away; what ran in them must have ended. */
  async close(): Promise<void> {
    for (const wire of this.#wires) {
      const ended = once(wire, 'exit')
      wire.kill('SIGTERM')
      await ended
    }
    const all = this.#sites.flatMap(({ hosts }, site) => [
      `r${site}`,
      `wire${site}`,
      ...Array.from({ length: hosts }, (_, host) => `${site}-${host}`)
    ])
    for (const each of ['core', ...all]) {
      deleteNamespace(`${this.#name}-${each}`)
    }
  }
}

function addHost(host: string): void {
  addNamespace(host)
  ip('-n', host, 'link', 'set', 'dev', 'lo', 'up')
}

function addRouter(router: string): void {
  addHost(router)
  ip('netns', 'exec', router, 'sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward')
}

/** A host on the switch of a site. */
function plugIn(name: string, site: number, host: number): void {
  const [router, end] = [`${name}-r${site}`, `${name}-${site}-${host}`]
  addHost(end)
  const peer = ['peer', 'name', `h${host}`, 'netns', router]
  ip('link', 'add', 'eth0', 'netns', end, 'type', 'veth', ...peer)
  ip('-n', router, 'link', 'set', 'dev', `h${host}`, 'master', 'switch', 'up')
  ip('-n', end, 'link', 'set', 'dev', 'eth0', 'up')
  ip('-n', end, 'addr', 'add', `10.8${site}.0.${10 + host}/24`, 'dev', 'eth0')
  ip('-n', end, 'route', 'add', 'default', 'via', `10.8${site}.0.1`)
  plain(end, 'eth0')
}

/** The wire must see frames as a real one would: whole segments have no size that counts. */
function plain(space: string, device: string): void {
  const off = ['tx', 'off', 'tso', 'off', 'gso', 'off', 'gro', 'off']
  ip('netns', 'exec', space, 'ethtool', '-K', device, ...off)
}

/** A wire between a site's router and what is between all sites, in a namespace of its own. */
async function stretch(
  name: string,
  site: number,
  { mbit, rttMs, loss = 0, slow = 0, wall = false }: Shape
): Promise<ChildProcess> {
  const wire = `${name}-wire${site}`
  addNamespace(wire)
  for (const [space, device, end, address] of [
    [`${name}-core`, `out${site}`, 'core', `10.79.${site}.1/24`],
    [`${name}-r${site}`, 'out', 'site', `10.79.${site}.2/24`]
  ] as const) {
    ip('link', 'add', device, 'netns', space, 'type', 'veth', 'peer', 'name', end, 'netns', wire)
    ip('-n', wire, 'link', 'set', 'dev', end, 'up')
    ip('-n', space, 'link', 'set', 'dev', device, 'up')
    ip('-n', space, 'addr', 'add', address, 'dev', device)
    plain(space, device)
    plain(wire, end)
  }
  const figures = [mbit * 1e6, rttMs / 2_000, loss, 0.2, slow, wall ? 1 : 0].map(String)
  const args = ['netns', 'exec', wire, 'perl', WIRE, 'core', 'site', ...figures]
  const child = spawn('ip', args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const [said] = await Promise.race([once(child.stdout, 'data'), once(child, 'exit')])
  if (typeof said === 'number' || said === null) throw new Error('the wire ended')
  return child
}

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] })
}
