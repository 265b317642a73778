import { setTimeout } from 'node:timers/promises'
import DHT from 'hyperdht'
import type NoiseSecretStream from '@hyperswarm/secret-stream'
import type Hyperswarm from 'hyperswarm'
import type { KeyPair } from '../keys/identity.js'
import { ParcelError } from '../errors.js'

/** How long nodes of the DHT may take to hear that this host leaves, ms. */
const LEAVING = 1_000

export interface Node {
  host: string
  port: number
}

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

/** A node of the DHT that knows which of its connections go through a relay. */
export class DhtNode extends DHT {
  readonly #toRelays = new Set<NoiseSecretStream>()
  /**
   * As whom a relay is dialled, by its key. Who connects names the relay, and could name anybody: to whom it
   * does not know a host is nobody.
   */
  asWhom: (relay: Buffer) => KeyPair = () => DHT.keyPair()

  override connect(
    publicKey: Buffer,
    options?: Parameters<DHT['connect']>[1]
  ): ReturnType<DHT['connect']> {
    // All that hyperdht dials by itself are relays: hosts are dialled with a key pair.
    const stream = super.connect(publicKey, options ?? { keyPair: this.asWhom(publicKey) })
    if (options === undefined) {
      this.#toRelays.add(stream)
      stream.once('close', () => this.#toRelays.delete(stream))
    }
    return stream
  }

  /** The key of the relay that a stream goes through; null: through none. */
  relayOf(stream: NoiseSecretStream['rawStream']): Buffer | null {
    for (const relay of this.#toRelays) {
      // Before it is connected it has none.
      const way: NoiseSecretStream['rawStream'] | null = relay.rawStream
      const isSame =
        stream.socket === way?.socket &&
        stream.remotePort === way?.remotePort &&
        stream.remoteHost === way?.remoteHost
      if (isSame) return relay.remotePublicKey
    }
    return null
  }
}

/** A DHT node for a host. With a bootstrap on loopback it stays on loopback; null is the public DHT. */
export function createNode(bootstrap: Node[] | null): DhtNode {
  if (bootstrap === null) return new DhtNode({})
  return new DhtNode({ bootstrap, ...(isLocal(bootstrap) && { host: '127.0.0.1' }) })
}

/**
 * Ends a swarm, and what else `isLeft` waits for. Nodes of the DHT hear what it takes back of where this
 * host is; nodes that do not answer are not waited for.
 */
export async function leave(swarm: Hyperswarm, isLeft = swarm.destroy()): Promise<void> {
  const isLate = setTimeout(LEAVING, true, { ref: false })
  if ((await Promise.race([isLeft, isLate])) === true) await swarm.dht.destroy({ force: true })
  await isLeft
}

/** Whether all of a DHT is on this machine. */
export function isLocal(bootstrap: Node[] | null): boolean {
  return bootstrap?.every(({ host }) => host === '127.0.0.1' || host === 'localhost') === true
}
