declare module 'hyperdht' {
  import type { EventEmitter } from 'node:events'
  import type { Duplex } from 'node:stream'

  export interface DhtOptions {
    bootstrap?: { host: string; port: number }[]
    host?: string
    port?: number
    ephemeral?: boolean
    firewalled?: boolean
  }

  export default class DHT extends EventEmitter {
    constructor(options?: DhtOptions)
    readonly host: string
    fullyBootstrapped(): Promise<void>
    address(): { host: string; port: number }
    connect(
      publicKey: Buffer,
      options: { keyPair: { publicKey: Buffer; secretKey: Buffer } }
    ): Duplex
    createServer(onConnection: (connection: Duplex) => void): {
      listen(keyPair: { publicKey: Buffer; secretKey: Buffer }): Promise<void>
    }
    destroy(options?: { force?: boolean }): Promise<void>
  }
}
