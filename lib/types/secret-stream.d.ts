declare module '@hyperswarm/secret-stream' {
  import type { Duplex } from 'node:stream'

  export default class NoiseSecretStream extends Duplex {
    constructor(
      isInitiator: boolean,
      rawStream?: Duplex | null,
      options?: {
        pattern?: 'IK'
        keyPair?: { publicKey: Buffer; secretKey: Buffer }
        /** The initiator's: who must answer. */
        remotePublicKey?: Buffer
      }
    )
    readonly rawStream: Duplex & {
      readonly remoteHost?: string
      readonly remotePort?: number
      /** Of UDX: what it goes out of. */
      readonly socket?: object
      readonly rtt?: number
      /** Of a TCP socket. */
      readonly remoteAddress?: string
      readonly localAddress?: string
    }
    readonly rawBytesRead: number
    readonly publicKey: Buffer
    readonly remotePublicKey: Buffer
    readonly handshakeHash: Buffer
    readonly isInitiator: boolean
    /** It was or is about to be destroyed, also before that has happened. */
    readonly destroying: boolean
    /** false when it was destroyed before. */
    readonly opened: Promise<boolean>
    setKeepAlive(ms: number): void
    setTimeout(ms: number): void
  }
}
