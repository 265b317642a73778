declare module 'hypercore-storage' {
  export default class CoreStorage {
    constructor(
      directory: string,
      options: { blobGarbageCollectionAgeCutOff: number; writeBufferSize?: number }
    )
    readonly db: {
      flush(): Promise<void>
      /** Numbers as in RocksDB's CompactRangeOptions. */
      compact(options: {
        blobGarbageCollectionPolicy: number
        blobGarbageCollectionAgeCutoff: number
        bottommostLevelCompaction: number
      }): Promise<void>
    }
    compact(): Promise<void>
    ready(): Promise<void>
    close(): Promise<void>
    hasCore(discoveryKey: Buffer): Promise<boolean>
    /** null: there is no such core. */
    resumeCore(discoveryKey: Buffer): Promise<StoredCore | null>
  }

  /** What is asked for is read by `tryFlush`, all at once. */
  export interface Reading {
    getHead(): Promise<{ length: number } | null>
    getBlock(index: number): Promise<Buffer | null>
    tryFlush(): void
  }

  export interface StoredCore {
    read(): Reading
    write(): {
      putBitfieldPage(index: number, page: Buffer): void
      flush(): Promise<unknown>
    }
    close(): Promise<void>
  }
}
