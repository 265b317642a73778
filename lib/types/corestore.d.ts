declare module 'corestore' {
  import type { EventEmitter } from 'node:events'
  import type CoreStorage from 'hypercore-storage'
  import type Hypercore from 'hypercore'
  import type { Manifest } from 'hypercore'

  export default class Corestore extends EventEmitter {
    constructor(storage: CoreStorage)
    ready(): Promise<void>
    get(options: {
      key?: Buffer
      manifest?: Manifest
      allowFork?: boolean
      writable?: boolean
      inflightRange?: [number, number]
    }): Hypercore
    /** Open cores by discovery key in hex, also those that could not be opened. */
    readonly cores: { readonly map: Map<string, unknown> }
    close(): Promise<void>
  }
}
