declare module '@hyperswarm/secret-stream' {
  import type { Duplex } from 'node:stream'

  export default class NoiseSecretStream {
    constructor(isInitiator: boolean, rawStream?: Duplex)
  }
}
