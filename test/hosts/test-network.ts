import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { addNamespace, deleteNamespace } from './namespaces.js'

const WIRE = fileURLToPath(new URL('../../../test/hosts/wire.pl', import.meta.url))
const SIDES = ['a', 'b', 'c'] as const

export type Side = (typeof SIDES)[number]

export interface Shape {
  /** Each way. */
  mbit: number
  rttMs: number
  /** Share of frames lost, each way. */
  loss?: number
  /** Bits a second once it is made slow. */
  slow?: number
  /** Of a site: from outside only answers come in. */
  wall?: boolean
}

/**
 * Hosts a and b in network namespaces of their own and a wire of some shape between them; on demand a
 * third host c on a wire of its own, which reaches a through b. Needs root, ip, ethtool, perl.
 */
export class TestNetwork {
  readonly #name: string
  readonly #wires: ChildProcess[]

  private constructor(name: string, wires: ChildProcess[]) {
    this.#name = name
    this.#wires = wires
  }

  /** Why there can be none here; null when there can. */
  static missing(): string | null {
    if (process.getuid?.() !== 0) return 'needs root for network namespaces'
    for (const program of ['ip', 'ethtool', 'perl']) {
      if (spawnSync('sh', ['-c', `command -v ${program}`]).status !== 0) return `needs ${program}`
    }
    const probe = `hp-probe-${process.pid}`
    if (spawnSync('ip', ['netns', 'add', probe]).status !== 0) return 'no network namespaces here'
    spawnSync('ip', ['netns', 'del', probe])
    return null
  }

  static async create(shape: Shape, third: Shape | null = null): Promise<TestNetwork> {
    const name = `hp${process.pid}`
    const wires: ChildProcess[] = []
    try {
      for (const side of third === null ? SIDES.slice(0, 2) : SIDES) addHost(`${name}-${side}`)
      wires.push(await stretch(name, { sides: ['a', 'b'], net: 0 }, shape))
      if (third !== null) {
        wires.push(await stretch(name, { sides: ['b', 'c'], net: 1 }, third))
        ip('netns', 'exec', `${name}-b`, 'sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward')
        ip('-n', `${name}-a`, 'route', 'add', '10.77.1.0/24', 'via', '10.77.0.2')
        ip('-n', `${name}-c`, 'route', 'add', '10.77.0.0/24', 'via', '10.77.1.1')
      }
      return new TestNetwork(name, wires)
    } catch (error) {
      for (const wire of wires) wire.kill('SIGTERM')
      remove(name)
      throw error
    }
  }

  /** Address of a host. */
  address(side: Side): string {
    return { a: '10.77.0.1', b: '10.77.0.2', c: '10.77.1.2' }[side]
  }

  /** What to put before a program so that it runs on a host. */
  on(side: Side): [string, ...string[]] {
    return ['ip', 'netns', 'exec', `${this.#name}-${side}`]
  }

  /** Cuts the wire between a and b, or joins it again. */
  cut(isCut: boolean): void {
    this.#wires[0]?.kill(isCut ? 'SIGUSR1' : 'SIGUSR2')
  }

  /** Takes down the interface of a host on the first wire. */
  down(side: 'a' | 'b'): void {
    ip('-n', `${this.#name}-${side}`, 'link', 'set', 'dev', 'eth0', 'down')
  }

  /** Brings it up with another address and no other. */
  move(side: 'a' | 'b', address: string): void {
    const host = `${this.#name}-${side}`
    ip('-n', host, 'addr', 'flush', 'dev', 'eth0')
    ip('-n', host, 'addr', 'add', `${address}/24`, 'dev', 'eth0')
    ip('-n', host, 'link', 'set', 'dev', 'eth0', 'up')
  }

  /** Makes the third host's wire as slow as its shape says. */
  slowDown(): void {
    this.#wires[1]?.kill('SIGHUP')
  }

  /** Ends the wires and takes the namespaces away; what ran in them must have ended. */
  async close(): Promise<void> {
    for (const wire of this.#wires) {
      const ended = once(wire, 'exit')
      wire.kill('SIGTERM')
      await ended
    }
    remove(this.#name)
  }
}

function addHost(host: string): void {
  addNamespace(host)
  ip('-n', host, 'link', 'set', 'dev', 'lo', 'up')
}

/** Starts a wire between two hosts, in a namespace of its own. */
async function stretch(
  name: string,
  { sides, net }: { sides: [Side, Side]; net: number },
  { mbit, rttMs, loss = 0, slow = 0 }: Shape
): Promise<ChildProcess> {
  const wire = `${name}-wire${net}`
  addNamespace(wire)
  for (const [n, side] of sides.entries()) {
    const host = `${name}-${side}`
    const eth = `eth${net}`
    ip('link', 'add', eth, 'netns', host, 'type', 'veth', 'peer', 'name', side, 'netns', wire)
    ip('-n', wire, 'link', 'set', 'dev', side, 'up')
    ip('-n', host, 'link', 'set', 'dev', eth, 'up')
    ip('-n', host, 'addr', 'add', `10.77.${net}.${n + 1}/24`, 'dev', eth)
    // The wire must see the frames as a real one would: whole segments have no size that counts.
    const off = ['tx', 'off', 'tso', 'off', 'gso', 'off', 'gro', 'off']
    ip('netns', 'exec', host, 'ethtool', '-K', eth, ...off)
    ip('netns', 'exec', wire, 'ethtool', '-K', side, ...off)
  }
  const figures = [mbit * 1e6, rttMs / 2_000, loss, 0.2, slow, 0].map(String)
  const args = ['netns', 'exec', wire, 'perl', WIRE, ...sides, ...figures]
  const child = spawn('ip', args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const [said] = await Promise.race([once(child.stdout, 'data'), once(child, 'exit')])
  if (typeof said === 'number' || said === null) throw new Error('the wire ended')
  return child
}

function remove(name: string): void {
  for (const end of [...SIDES, 'wire0', 'wire1']) deleteNamespace(`${name}-${end}`)
}

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] })
}
