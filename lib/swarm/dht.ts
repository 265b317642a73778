import DHT from 'hyperdht'
import { ParcelError } from '../errors.js'

export interface Node {
  host: string
  port: number
}

/** Fewer than four nodes connect two hosts but do not replicate. */
const PRIVATE_NODES = 5

/** Reads 'host:port[,host:port…]'. Throws USAGE. */
export function parseBootstrap(text: string): Node[] {
  return text.split(',').map((part) => {
    const match = /^\s*(\[[0-9a-f:]+\]|[\w.-]+):(\d{1,5})\s*$/i.exec(part)
    const [, host, port] = match ?? []
    if (host === undefined || Number(port) < 1 || Number(port) > 65_535) {
      throw new ParcelError('USAGE', `not a DHT address: "${part}" (give host:port)`)
    }
    return { host: host.replace(/^\[|\]$/g, ''), port: Number(port) }
  })
}

/** A DHT node for a host. With a bootstrap on loopback it stays on loopback; null is the public DHT. */
export function createNode(bootstrap: Node[] | null): DHT {
  if (bootstrap === null) return new DHT({})
  const isLocal = bootstrap.every(({ host }) => host === '127.0.0.1' || host === 'localhost')
  return isLocal ? new DHT({ bootstrap, host: '127.0.0.1' }) : new DHT({ bootstrap })
}

/** A DHT of its own, on one machine: for a network without internet, a demo or a test. */
export class PrivateDht {
  readonly address: string
  readonly #nodes: DHT[]

  private constructor(address: string, nodes: DHT[]) {
    this.address = address
    this.#nodes = nodes
  }

  /** `host` is the address that others reach it at; port 0 takes a free one. */
  static async start({ host = '127.0.0.1', port = 0 } = {}): Promise<PrivateDht> {
    const nodes: DHT[] = []
    const bootstrap: Node[] = []
    const bind = host === '127.0.0.1' ? host : '0.0.0.0'
    try {
      while (nodes.length < PRIVATE_NODES) {
        const options = { host: bind, ephemeral: false, firewalled: false }
        const isFirst = nodes.length === 0
        const node = new DHT({
          ...options,
          bootstrap: [...bootstrap],
          ...(isFirst && port !== 0 ? { port } : {})
        })
        nodes.push(node)
        await node.fullyBootstrapped()
        if (bootstrap.length === 0) bootstrap.push({ host, port: node.address().port })
      }
    } catch (error) {
      await Promise.all(nodes.map((node) => node.destroy({ force: true })))
      throw ParcelError.from(error, 'cannot start a DHT')
    }
    const [first] = bootstrap
    if (port !== 0 && first?.port !== port) {
      await Promise.all(nodes.map((node) => node.destroy({ force: true })))
      throw new ParcelError('FAILED', `port ${port} is in use: choose another with --port`)
    }
    return new PrivateDht(`${host}:${first?.port ?? port}`, nodes)
  }

  async stop(): Promise<void> {
    for (const node of this.#nodes.toReversed()) await node.destroy({ force: true })
  }
}
