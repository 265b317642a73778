import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'

interface Core {
  length: number
  byteLength: number
  download(range: { start: number; end: number }): { done(): Promise<void> }
}

export interface Drive {
  key: Buffer
  discoveryKey: Buffer
  version: number
  core: Core
  ready(): Promise<void>
  getBlobs(): Promise<{ core: Core }>
}

interface Stream {
  on(event: 'error', listener: () => void): void
}

/** Only what is called here. */
interface PeerPackages {
  Corestore: new (dir: string) => { replicate(stream: Stream): void; close(): Promise<void> }
  Hyperdrive: new (store: object, key: Buffer | null) => Drive
  DHT: new (options: { bootstrap: { host: string; port: number }[]; host: string }) => object
  Hyperswarm: new (options: { dht: object }) => {
    on(event: 'connection', listener: (stream: Stream) => void): void
    join(topic: Buffer, options: { server: boolean; client: boolean }): { flushed(): Promise<void> }
    destroy(): Promise<void>
  }
  Localdrive: new (dir: string) => object
  MirrorDrive: new (
    from: object,
    to: object,
    options?: { dedup: boolean }
  ) => { done(): Promise<void> }
}

/** A folder with hyperdrive, mirror-drive and localdrive in its node_modules. */
function folder(): string | null {
  const dir = process.env['HYPERPARCEL_BENCH_PEERS'] ?? ''
  return dir === '' ? null : dir
}

/** null: not present. */
export function hyperdriveVersion(): string | null {
  const dir = folder()
  if (dir === null) return null
  const versions = ['hyperdrive', 'mirror-drive', 'hypercore'].map((name) => {
    const text = readFileSync(join(dir, 'node_modules', name, 'package.json'), 'utf8')
    const { version }: { version: string } = JSON.parse(text)
    return name === 'hyperdrive' ? version : `${name} ${version}`
  })
  return versions.join(', ')
}

export function peerPackages(): PeerPackages {
  const dir = folder()
  if (dir === null) throw new Error('HYPERPARCEL_BENCH_PEERS names no folder')
  const load = createRequire(join(dir, 'package.json'))
  return {
    Corestore: load('corestore'),
    Hyperdrive: load('hyperdrive'),
    DHT: load('hyperdht'),
    Hyperswarm: load('hyperswarm'),
    Localdrive: load('localdrive'),
    MirrorDrive: load('mirror-drive')
  }
}
