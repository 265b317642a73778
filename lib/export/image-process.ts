import type { ChildProcess } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import { z } from 'zod'
import { ParcelError } from '../errors.js'
import { detachDead, fusermounted } from './fusermount.js'
import type { ItemsAddress } from './item-client.js'
import { launchImages } from './launch.js'

export const itemsAddress = z.strictObject({
  socket: z.string(),
  parcel: z.string(),
  version: z.string(),
  prefetch: z.boolean(),
  start: z.array(z.string())
})

/** What an image server is started with, as JSON in its one argument or as its first message. */
export interface ImageSpec {
  items: ItemsAddress
  /** Folder of what is written. */
  overlays: string
  /** Paths of the files to serve; null: all. */
  files: string[] | null
  /** Folder to mount them at; null: not at all. */
  mount: string | null
  nbd: { socket: string } | { port: number; token: string } | null
  /** Bytes. */
  readahead: number
  isReadOnly: boolean
  /** For a running guest: what fails is tried again instead of being told. */
  isPatient: boolean
}

export const serverStatus = z.object({
  /** Packs and items asked for since the start. */
  asked: z.number(),
  /** Of them, those that have not come yet. */
  waiting: z.number(),
  dirtyBytes: z.number(),
  /** Whether there is anything that is in no version. */
  isDirty: z.boolean(),
  /** Chunks that were used since the start, until the guest had settled. */
  used: z.number(),
  /** Of them, those that were known to be before; and how many were. */
  covered: z.number(),
  known: z.number(),
  /** NBD connections. */
  clients: z.number(),
  /** Why something is tried again and again. */
  troubles: z.array(z.string())
})
export type ServerStatus = z.infer<typeof serverStatus>

const ready = z.object({ type: z.literal('ready'), port: z.number(), files: z.array(z.string()) })
export type Ready = z.infer<typeof ready>

const failed = z.object({ type: z.literal('failed'), code: z.string(), message: z.string() })
const reply = z.discriminatedUnion('type', [
  z.object({ type: z.literal('answer'), number: z.number(), status: serverStatus }),
  z.object({
    type: z.literal('look'),
    number: z.number(),
    size: z.number(),
    /** Base64. */
    head: z.string()
  }),
  z.object({
    type: z.literal('refusal'),
    number: z.number(),
    code: z.string(),
    message: z.string()
  })
])

type Reply = z.infer<typeof reply>

/** What its parent asks it for. */
export interface Request {
  verb: Verb
  number: number
  /** Of what to look at, and how much of its beginning. */
  path?: string
  length?: number
}
type Verb = 'status' | 'flush' | 'abandon' | 'end' | 'look'

/** An image server as its parent sees it. It ends with its parent. */
export class ImageProcess {
  /** Settles when it has ended; the text says why, null when it was asked to or unmounted. */
  readonly exited: Promise<string | null>
  /** The port of NBD over TCP. */
  port = 0
  /** Paths of what is served. */
  files: readonly string[] = []
  readonly #child: ChildProcess
  readonly #asked = new Map<
    number,
    { resolve: (reply: Reply) => void; reject: (error: Error) => void }
  >()
  #next = 1
  #isEnding = false

  private constructor(child: ChildProcess, mount: string | null) {
    this.#child = child
    this.exited = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        for (const { reject } of this.#asked.values()) {
          reject(new ParcelError('FAILED', 'the image server has ended'))
        }
        const why =
          code === 0 || this.#isEnding
            ? null
            : `the image server ended with ${signal ?? `status ${code}`}`
        // One that was killed has left its mount behind.
        const isLeft = why !== null && mount !== null
        void (isLeft ? detachDead(mount) : Promise.resolve()).then(() => resolve(why))
      })
    })
    child.on('message', (message) => this.#onMessage(message))
  }

  /** Starts it, or takes a `prepared` one, and waits until it serves. Throws what it could not do. */
  static async start(spec: ImageSpec, prepared: ChildProcess | null = null): Promise<ImageProcess> {
    if (spec.mount !== null) {
      await detachDead(spec.mount)
      await mkdir(spec.mount, { recursive: true }).catch((error: unknown) => {
        throw new ParcelError('FAILED', `cannot mount at ${spec.mount}: it is no folder`, error)
      })
    }
    const isPlainUser = process.platform === 'linux' && process.getuid?.() !== 0
    const by = isPlainUser && spec.mount !== null ? fusermounted(spec.mount) : []
    // What is mounted for it must be before it starts.
    const isUsable = by.length === 0 && prepared?.connected === true
    if (!isUsable && prepared?.connected === true) prepared.disconnect()
    const child = isUsable ? prepared : launchImages(by, JSON.stringify(spec))
    const server = new ImageProcess(child, spec.mount)
    if (isUsable) child.send(spec, () => {})
    const first = await new Promise<unknown>((resolve) => {
      child.once('message', resolve)
      void server.exited.then(resolve)
      child.once('error', resolve)
    })
    const failure = failed.safeParse(first)
    if (failure.success) throw ParcelError.revive(failure.data)
    const message = ready.safeParse(first)
    if (!message.success) {
      throw new ParcelError('FAILED', 'the image server ended as soon as it was started')
    }
    server.port = message.data.port
    server.files = message.data.files
    return server
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  async status(): Promise<ServerStatus> {
    const answer = await this.#ask('status')
    if (answer.type !== 'answer') throw new ParcelError('FAILED', 'an answer of another kind')
    return answer.status
  }

  /** Size of a file that is served, and so many bytes of its beginning. */
  async look(path: string, length: number): Promise<{ size: number; head: Buffer }> {
    const answer = await this.#ask('look', { path, length })
    if (answer.type !== 'look') throw new ParcelError('FAILED', 'an answer of another kind')
    return { size: answer.size, head: Buffer.from(answer.head, 'base64') }
  }

  /** What was written is on stable storage when it settles. */
  async flush(): Promise<void> {
    await this.#ask('flush')
  }

  /** Lets whoever waits for something of an image fail, so that it can be killed. */
  async abandon(): Promise<void> {
    await this.#ask('abandon').catch(() => {})
  }

  /** Unmounts, hangs up and ends; what was written stays in the overlays. */
  async end(): Promise<void> {
    this.#isEnding = true
    const request: Request = { verb: 'end', number: 0 }
    if (this.#child.connected) this.#child.send(request, () => {})
    await this.exited
  }

  #ask(verb: Verb, what: { path?: string; length?: number } = {}): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const number = this.#next++
      this.#asked.set(number, { resolve, reject })
      const request: Request = { verb, number, ...what }
      if (!this.#child.connected) reject(new ParcelError('FAILED', 'the image server has ended'))
      else this.#child.send(request, (error) => error !== null && reject(error))
    })
  }

  #onMessage(message: unknown): void {
    const parsed = reply.safeParse(message)
    if (!parsed.success) return
    const { data } = parsed
    const asked = this.#asked.get(data.number)
    this.#asked.delete(data.number)
    if (data.type === 'refusal') asked?.reject(ParcelError.revive(data))
    else asked?.resolve(data)
  }
}
