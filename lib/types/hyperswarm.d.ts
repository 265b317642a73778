declare module 'hyperswarm' {
  import type NoiseSecretStream from '@hyperswarm/secret-stream'
  import type { EventEmitter } from 'node:events'
  import type { Duplex } from 'node:stream'
  import type DHT from 'hyperdht'

  export interface Connection extends Duplex {
    readonly remotePublicKey: Buffer
    readonly publicKey: Buffer
    readonly handshakeHash: Buffer
    /** Whether this side dialled. */
    readonly isInitiator: boolean
    readonly rawStream: NoiseSecretStream['rawStream']
    readonly rawBytesRead: number
    /** It was or is about to be destroyed, also before that has happened. */
    readonly destroying: boolean
    setKeepAlive(ms: number): void
  }

  export interface PeerInfo {
    readonly publicKey: Buffer
    /** Dials in succession that led to nothing, or not for long. */
    readonly attempts: number
    ban(banned: boolean): void
  }

  export interface Discovery {
    flushed(): Promise<void>
    destroy(): Promise<void>
  }

  export interface SwarmOptions {
    keyPair: { publicKey: Buffer; secretKey: Buffer }
    dht: DHT
    firewall?: (remotePublicKey: Buffer) => boolean
    backoffs?: number[]
  }

  export default class Hyperswarm extends EventEmitter {
    constructor(options: SwarmOptions)
    readonly dht: DHT
    readonly peers: Map<string, PeerInfo>
    readonly connections: Set<Connection>
    /** Dials that are under way. */
    readonly connecting: number
    on(event: 'connection', listener: (connection: Connection) => void): this
    on(event: 'ban', listener: (peer: PeerInfo) => void): this
    join(topic: Buffer, options: { server: boolean; client: boolean }): Discovery
    joinPeer(publicKey: Buffer): void
    leavePeer(publicKey: Buffer): void
    listen(): Promise<void>
    flush(): Promise<boolean>
    destroy(options?: { force?: boolean }): Promise<void>
    /** With dials that have not come about yet. */
    protected readonly _allConnections: { get(publicKey: Buffer): Connection | undefined }
    /** Somebody has dialled us. */
    protected _handleServerConnection(connection: Connection): void
    protected _connect(peer: PeerInfo, isQueued: boolean): void
    /** Called while a host is dialled, and when one has dialled. */
    protected _maybeRelayConnection(): Buffer | null
  }
}
