import type { Stretch } from './image.js'

/** What an export serves: bytes by offset. An image of a version is one. */
export interface Volume {
  /** Bytes. */
  readonly size: number
  /** Less than asked for only behind the end. */
  read(offset: number, length: number): Promise<Buffer>
  write(offset: number, bytes: Buffer): Promise<void>
  /** Makes a range zero without storing zeros. */
  zero(offset: number, length: number): Promise<void>
  resize(size: number): Promise<void>
  flush(): Promise<void>
  stretches(offset: number, length: number): Promise<Stretch[]>
}
