declare module 'rocksdb-native' {
  export interface ReadBatch {
    get(key: Buffer): Promise<Buffer | null>
    flush(): Promise<void>
    destroy(): void
  }
  export interface WriteBatch {
    put(key: Buffer, value: Buffer): Promise<void>
    flush(): Promise<void>
    destroy(): void
  }
  export default class RocksDB {
    constructor(path: string)
    ready(): Promise<void>
    read(): ReadBatch
    write(): WriteBatch
    flush(): Promise<void>
    close(): Promise<void>
  }
}
