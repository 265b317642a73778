declare module 'blind-relay' {
  import type { EventEmitter } from 'node:events'
  import type { Duplex } from 'node:stream'
  import type NoiseSecretStream from '@hyperswarm/secret-stream'

  export class Server {
    constructor(options: { createStream: (options?: object) => NoiseSecretStream['rawStream'] })
    accept(stream: Duplex, options: { id: Buffer }): Session
  }

  export interface Session extends EventEmitter {
    readonly stream: Duplex
    on(event: 'error', listener: (error: Error) => void): this
    destroy(): void
  }
}
