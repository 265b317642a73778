import { EventEmitter } from 'node:events'
import type { Duplex } from 'node:stream'
import { z } from 'zod'
import { ParcelError } from '../errors.js'

/** A message that QEMU sends unasked, for example `{ event: 'MIGRATION', data: { status: 'completed' } }`. */
export interface QmpEvent {
  event: string
  data: Record<string, unknown>
}

export interface QmpOptions {
  /** Longest line accepted, in bytes. The answers we ask for are a few KiB. */
  lineLimit?: number
  /** How long an answer may take, in milliseconds, unless the call says otherwise. */
  timeout?: number
}

const incoming = z.union([
  z.object({ QMP: z.object({}) }),
  z.object({ event: z.string(), data: z.record(z.string(), z.unknown()).default({}) }),
  z.object({ error: z.object({ desc: z.string() }), id: z.number().optional() }),
  z.object({ return: z.unknown(), id: z.number() })
])

interface Pending {
  command: string
  resolve: (value: unknown) => void
  reject: (error: ParcelError) => void
  timer: NodeJS.Timeout
}

const LINE_LIMIT = 1 << 20
const TIMEOUT_MS = 60_000
const NEWLINE = 0x0a

/**
 * A client of the QEMU Machine Protocol: one JSON object a line, answers matched to commands by
 * `id`, events in between. Owns the stream it is given.
 * Format: https://www.qemu.org/docs/master/interop/qmp-spec.html
 *
 * Emits 'event' with a QmpEvent, and 'close' once, with the reason, when nothing more will come.
 */
export class Qmp extends EventEmitter<{ event: [QmpEvent]; close: [ParcelError] }> {
  readonly #stream: Duplex
  readonly #lineLimit: number
  readonly #timeout: number
  readonly #pending = new Map<number, Pending>()
  #nextId = 1
  #closed: ParcelError | null = null
  #greeted: () => void = () => {}
  #partial: Buffer[] = []
  #partialBytes = 0

  private constructor(stream: Duplex, options: QmpOptions) {
    super()
    this.#stream = stream
    this.#lineLimit = options.lineLimit ?? LINE_LIMIT
    this.#timeout = options.timeout ?? TIMEOUT_MS
    stream.on('data', (bytes: Buffer) => this.#take(bytes))
    stream.on('error', (error) =>
      this.#fail(`the connection to QEMU broke: ${error.message}`, error)
    )
    stream.on('end', () => this.#fail('QEMU closed the connection'))
    stream.on('close', () => this.#fail('QEMU closed the connection'))
  }

  /**
   * Waits for QEMU's greeting and leaves negotiation mode, so that commands can be given.
   * Throws VMM_FAILED when the stream ends first or nothing comes in time; the stream is then destroyed.
   */
  static async open(stream: Duplex, options: QmpOptions = {}): Promise<Qmp> {
    const qmp = new Qmp(stream, options)
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(
        () => qmp.#fail(`QEMU did not greet within ${qmp.#timeout / 1000} s`),
        qmp.#timeout
      )
      const settle = (error: ParcelError | null): void => {
        clearTimeout(timer)
        qmp.off('close', settle)
        if (error === null) resolve()
        else reject(error)
      }
      qmp.#greeted = () => settle(null)
      qmp.once('close', settle)
    })
    await qmp.execute('qmp_capabilities')
    return qmp
  }

  /**
   * Gives a command and resolves with what QEMU returns for it, to be checked by the caller.
   * Throws VMM_FAILED with QEMU's own words when it refuses, when the connection ends, or when no
   * answer comes within `timeout` milliseconds. A late answer is dropped.
   */
  execute(
    command: string,
    args: Record<string, unknown> = {},
    timeout = this.#timeout
  ): Promise<unknown> {
    if (this.#closed !== null) return Promise.reject(this.#closed)
    const id = this.#nextId++
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id)
        reject(
          new ParcelError(
            'VMM_FAILED',
            `QEMU did not answer '${command}' within ${timeout / 1000} s`
          )
        )
      }, timeout)
      this.#pending.set(id, { command, resolve, reject, timer })
      this.#stream.write(JSON.stringify({ execute: command, arguments: args, id }) + '\n')
    })
  }

  /** Ends the connection; commands that wait for an answer are rejected. QEMU itself goes on. */
  close(): void {
    this.#fail('the connection to QEMU was closed')
  }

  #take(bytes: Buffer): void {
    let start = 0
    for (;;) {
      const end = bytes.indexOf(NEWLINE, start)
      const piece = bytes.subarray(start, end === -1 ? bytes.length : end)
      this.#partial.push(piece)
      this.#partialBytes += piece.length
      if (this.#partialBytes > this.#lineLimit) {
        this.#fail(`QEMU sent a line of more than ${this.#lineLimit} bytes`)
        return
      }
      if (end === -1) return
      const line = Buffer.concat(this.#partial).toString().trim()
      this.#partial = []
      this.#partialBytes = 0
      if (line !== '') this.#message(line)
      if (this.#closed !== null) return
      start = end + 1
    }
  }

  #message(line: string): void {
    const parsed = incoming.safeParse(parseJson(line))
    if (!parsed.success) {
      this.#fail(`QEMU sent what is not QMP: ${line.slice(0, 80)}`)
      return
    }
    const message = parsed.data
    if ('QMP' in message) this.#greeted()
    else if ('event' in message) this.emit('event', message)
    else if (message.id === undefined) this.#fail('QEMU could not read our command')
    else this.#answer(message.id, message)
  }

  #answer(id: number, message: { return: unknown } | { error: { desc: string } }): void {
    const pending = this.#pending.get(id)
    if (pending === undefined) return
    this.#pending.delete(id)
    clearTimeout(pending.timer)
    if ('error' in message) {
      pending.reject(
        new ParcelError('VMM_FAILED', `QEMU refused '${pending.command}': ${message.error.desc}`)
      )
    } else {
      pending.resolve(message.return)
    }
  }

  #fail(reason: string, cause?: unknown): void {
    if (this.#closed !== null) return
    this.#closed = new ParcelError('VMM_FAILED', reason, cause)
    this.#partial = []
    this.#stream.destroy()
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer)
      reject(this.#closed)
    }
    this.#pending.clear()
    this.emit('close', this.#closed)
  }
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}
