import DHT from 'hyperdht'
import { ParcelError } from '../errors.js'

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

/** Whether all of a DHT is on this machine. */
export function isLocal(bootstrap: Node[] | null): boolean {
  return bootstrap?.every(({ host }) => host === '127.0.0.1' || host === 'localhost') === true
}
