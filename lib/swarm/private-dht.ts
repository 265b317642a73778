import DHT from 'hyperdht'
import { ParcelError } from '../errors.js'
import type { Node } from './dht.js'

/** Fewer than four nodes connect two hosts but do not replicate. */
const PRIVATE_NODES = 5

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
