import { setTimeout } from 'node:timers/promises'
import DHT from 'hyperdht'
import type Hyperswarm from 'hyperswarm'
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

/** A DHT node for a host. With a bootstrap on loopback it stays on loopback; null is the public DHT. */
export function createNode(bootstrap: Node[] | null): DHT {
  if (bootstrap === null) return new DHT({})
  return isLocal(bootstrap) ? new DHT({ bootstrap, host: '127.0.0.1' }) : new DHT({ bootstrap })
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
