declare module '@hyperswarm/secret-stream' {
  import { Duplex } from 'node:stream'

  export default class NoiseSecretStream extends Duplex {
    constructor(isInitiator: boolean)
    readonly rawStream: Duplex
  }
}
