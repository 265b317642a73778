declare module 'hypercore-storage' {
  export default class CoreStorage {
    constructor(
      directory: string,
      options: { blobGarbageCollectionAgeCutOff: number; writeBufferSize?: number }
    )
    readonly db: { flush(): Promise<void> }
    compact(): Promise<void>
    ready(): Promise<void>
    close(): Promise<void>
  }
}
