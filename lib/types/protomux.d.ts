declare module 'protomux' {
  import type { Duplex } from 'node:stream'

  export interface Message<T> {
    send(value: T): boolean
  }

  export interface Channel {
    open(handshake: Buffer): void
    close(): void
  }

  export default class Protomux {
    static from(stream: Duplex): Protomux
    readonly stream: Duplex
    pair(to: { protocol: string; id?: Buffer | null }, notify: (id: Buffer | null) => void): void
    unpair(from: { protocol: string; id?: Buffer | null }): void
    /** null when a channel of this name is open already, or the stream has ended. */
    createChannel(options: {
      protocol: string
      id?: Buffer | null
      handshake: object
      messages: { encoding: object; onmessage: (value: Buffer) => void }[]
      onopen: (handshake: Buffer) => void
      onclose: (isRemote: boolean) => void
      ondrain?: () => void
    }): (Channel & { messages: Message<Buffer>[] }) | null
  }
}
