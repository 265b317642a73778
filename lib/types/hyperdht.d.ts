declare module 'hyperdht' {
  import type NoiseSecretStream from '@hyperswarm/secret-stream'
  import type { EventEmitter } from 'node:events'

  export interface DhtOptions {
    bootstrap?: { host: string; port: number }[]
    host?: string
    port?: number
    ephemeral?: boolean
    firewalled?: boolean
  }

  export interface Server {
    listen(keyPair: { publicKey: Buffer; secretKey: Buffer }): Promise<void>
    close(): Promise<void>
  }

  export default class DHT extends EventEmitter {
    static keyPair(): { publicKey: Buffer; secretKey: Buffer }
    constructor(options?: DhtOptions)
    readonly host: string
    fullyBootstrapped(): Promise<void>
    address(): { host: string; port: number }
    connect(
      publicKey: Buffer,
      options?: { keyPair: { publicKey: Buffer; secretKey: Buffer } }
    ): NoiseSecretStream
    createServer(onConnection: (connection: NoiseSecretStream) => void): Server
    createServer(
      options: { firewall: (remotePublicKey: Buffer) => boolean },
      onConnection: (connection: NoiseSecretStream) => void
    ): Server
    createRawStream(options?: object): NoiseSecretStream['rawStream']
    destroy(options?: { force?: boolean }): Promise<void>
  }
}
