import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

const WIRE = fileURLToPath(new URL('../../../test/hosts/wire.pl', import.meta.url))
const SIDES = ['a', 'b'] as const

export type Side = (typeof SIDES)[number]

export interface Shape {
  /** Each way. */
  mbit: number
  rttMs: number
  /** Share of frames lost, each way. */
  loss?: number
}

/** Two hosts in network namespaces of their own, and a wire of some shape between them. Needs root, ip, ethtool, perl. */
export class TestNetwork {
  readonly #name: string
  readonly #wire: ChildProcess

  private constructor(name: string, wire: ChildProcess) {
    this.#name = name
    this.#wire = wire
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

  static async create(shape: Shape): Promise<TestNetwork> {
    const name = `hp${process.pid}`
    try {
      return new TestNetwork(name, await stretch(name, shape))
    } catch (error) {
      remove(name)
      throw error
    }
  }

  /** Address of a host. */
  address(side: Side): string {
    return `10.77.0.${SIDES.indexOf(side) + 1}`
  }

  /** What to put before a program so that it runs on a host. */
  on(side: Side): [string, ...string[]] {
    return ['ip', 'netns', 'exec', `${this.#name}-${side}`]
  }

  /** Cuts the wire, or joins it again. */
  cut(isCut: boolean): void {
    this.#wire.kill(isCut ? 'SIGUSR1' : 'SIGUSR2')
  }

  /** Ends the wire and takes the namespaces away; what ran in them must have ended. */
  async close(): Promise<void> {
    const ended = once(this.#wire, 'exit')
    this.#wire.kill('SIGTERM')
    await ended
    remove(this.#name)
  }
}

/** Makes the namespaces and starts the wire between them. */
async function stretch(name: string, { mbit, rttMs, loss = 0 }: Shape): Promise<ChildProcess> {
  const wire = `${name}-wire`
  ip('netns', 'add', wire)
  for (const [n, side] of SIDES.entries()) {
    const host = `${name}-${side}`
    ip('netns', 'add', host)
    ip('link', 'add', 'eth', 'netns', host, 'type', 'veth', 'peer', 'name', side, 'netns', wire)
    ip('-n', wire, 'link', 'set', 'dev', side, 'up')
    ip('-n', host, 'link', 'set', 'dev', 'lo', 'up')
    ip('-n', host, 'link', 'set', 'dev', 'eth', 'up')
    ip('-n', host, 'addr', 'add', `10.77.0.${n + 1}/24`, 'dev', 'eth')
    // The wire must see the frames as a real one would: whole segments have no size that counts.
    const off = ['tx', 'off', 'tso', 'off', 'gso', 'off', 'gro', 'off']
    ip('netns', 'exec', host, 'ethtool', '-K', 'eth', ...off)
    ip('netns', 'exec', wire, 'ethtool', '-K', side, ...off)
  }
  const figures = [mbit * 1e6, rttMs / 2_000, loss, 0.2].map(String)
  const args = ['netns', 'exec', wire, 'perl', WIRE, ...SIDES, ...figures]
  const child = spawn('ip', args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const [said] = await Promise.race([once(child.stdout, 'data'), once(child, 'exit')])
  if (typeof said === 'number' || said === null) throw new Error('the wire ended')
  return child
}

function remove(name: string): void {
  for (const end of [...SIDES, 'wire']) spawnSync('ip', ['netns', 'del', `${name}-${end}`])
}

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] })
}
