declare module '@hyperswarm/secret-stream' {
  import type { Duplex } from 'node:stream'

  export default class NoiseSecretStream extends Duplex {
    constructor(isInitiator: boolean)
    readonly rawStream: Duplex
  }
}
