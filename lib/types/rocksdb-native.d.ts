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
  class ColumnFamily {
    constructor(name: string, options: { writeBufferSize: number })
  }

  export default class RocksDB {
    static ColumnFamily: typeof ColumnFamily
    constructor(path: string, options?: { writeBufferSize?: number })
    columnFamily(family: ColumnFamily): RocksDB
    ready(): Promise<void>
    read(): ReadBatch
    write(): WriteBatch
    flush(): Promise<void>
    close(): Promise<void>
  }
}
