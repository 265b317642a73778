import { createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { z } from 'zod'
import { ParcelError } from '../errors.js'
import {
  ANSWER,
  answerHead,
  decodeQuestion,
  ITEM_SOCKET,
  message,
  QUESTION,
  takeMessage
} from '../export/item-protocol.js'
import { Incoming } from '../incoming.js'
import { listenOn } from '../local-socket.js'
import type { VersionItems } from '../parcel/fetch/version-items.js'

const hello = z.strictObject({
  parcel: z.string().max(64),
  version: z.string().max(64),
  prefetch: z.boolean()
})

type Lend = (wish: z.infer<typeof hello>) => VersionItems

/** Gives image servers the items of versions, for as long as they are connected. */
export class ItemServer {
  readonly #lend: Lend
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  constructor(lend: Lend) {
    this.#lend = lend
    this.#server = createServer((socket) => void this.#serve(socket))
  }

  /** On a socket in the home folder. */
  async listen(home: string): Promise<void> {
    await listenOn(this.#server, join(home, ITEM_SOCKET))
    // It alone keeps no process alive.
    this.#server.unref()
  }

  /** Image servers that are connected: a daemon stays for them. */
  get clients(): number {
    return this.#sockets.size
  }

  /** They connect again, to the next daemon. */
  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve))
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }

  async #serve(socket: Socket): Promise<void> {
    const abort = new AbortController()
    this.#sockets.add(socket)
    socket.once('close', () => {
      this.#sockets.delete(socket)
      abort.abort()
    })
    socket.on('error', () => socket.destroy())
    const incoming = new Incoming(socket)
    let items: VersionItems | null = null
    try {
      const first = await takeMessage(incoming)
      if (first === null) return
      items = this.#lend(hello.parse(JSON.parse(first.toString())))
      socket.write(message(Buffer.from(JSON.stringify(items.records))))
      await this.#answerAll(socket, incoming, items, abort.signal)
    } catch (error) {
      const { code, message: text } = ParcelError.from(error)
      socket.write(message(Buffer.from(JSON.stringify({ code, message: text }))))
    } finally {
      items?.release()
      socket.end()
    }
  }

  async #answerAll(
    socket: Socket,
    incoming: Incoming,
    items: VersionItems,
    signal: AbortSignal
  ): Promise<void> {
    const cancels = new Map<number, AbortController>()
    for (;;) {
      const bytes = await takeMessage(incoming)
      const question = bytes === null ? null : decodeQuestion(bytes)
      if (question === null) return
      const { kind, number, core, block, ordinal, id } = question
      if (kind === QUESTION.cancel) {
        cancels.get(number)?.abort()
        continue
      }
      const cancel = new AbortController()
      cancels.set(number, cancel)
      const answer = (head: number, body: Buffer): void => {
        cancels.delete(number)
        if (!socket.destroyed) socket.write(message(body, answerHead(head, number)))
      }
      items.supply({ core, block, ordinal, id }, AbortSignal.any([signal, cancel.signal])).then(
        (found) => answer(found.kind === 'pack' ? ANSWER.pack : ANSWER.item, found.bytes),
        (error: unknown) => {
          const { code, message: text } = ParcelError.from(error)
          answer(ANSWER.error, Buffer.from(JSON.stringify({ code, message: text })))
        }
      )
    }
  }
}
