import type { Duplex } from 'node:stream'

/** The bytes that come over a socket, taken in pieces of known lengths; what nobody takes waits at the sender. */
export class Incoming {
  readonly #socket: Duplex
  #wake: () => void = () => {}

  constructor(socket: Duplex) {
    this.#socket = socket
    // One listener for good: each new one is told at once of what is buffered, enough or not.
    const wake = (): void => this.#wake()
    socket.on('readable', wake).on('end', wake).on('close', wake)
  }

  /** The next `count` bytes; null when the other side has hung up before. One call at a time. */
  async take(count: number): Promise<Buffer | null> {
    if (count === 0) return Buffer.alloc(0)
    for (;;) {
      const bytes: unknown = this.#socket.read(count)
      if (Buffer.isBuffer(bytes)) return bytes.byteLength === count ? bytes : null
      if (this.#socket.readableEnded || this.#socket.destroyed) return null
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }
}
