import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import { z } from 'zod'
import { ParcelError } from '../errors.js'
import type { Host } from '../host.js'
import type { TaskEvent } from '../progress.js'
import { listenOn } from '../local-socket.js'
import { SOFTWARE } from '../software.js'
import type { Vaults } from '../host/vaults.js'
import { CALL_HEADER, SOCKET, type DaemonStatus } from './protocol.js'
import { isVerb, verbs, type VerbContext } from './verbs.js'

const MAX_BODY = 1024 * 1024
const cancelled = z.strictObject({ call: z.string() })

/**
 * The daemon's API: HTTP on a unix socket in the home folder, which only its user can open.
 * `POST /v1/VERB` with parameters as JSON answers with one JSON object a line: progress and notes
 * while it works, `item` for each of many results, then `result` or `error`. Status 503: nothing was begun,
 * it can be asked again in a moment. A caller that hangs up, or cancels, interrupts its verb.
 */
export class DaemonServer {
  readonly #host: Host
  readonly #vaults: Vaults
  readonly #http: Server
  readonly #status: Omit<DaemonStatus, 'active'>
  readonly #onStop: () => void
  readonly #calls = new Map<string, AbortController>()
  #active = 0
  #isClosing = false
  #lastActive = performance.now()

  constructor(
    host: Host,
    vaults: Vaults,
    options: { bootstrap: string; idleLimit: number | null; onStop: () => void }
  ) {
    this.#host = host
    this.#vaults = vaults
    this.#onStop = options.onStop
    this.#status = {
      pid: process.pid,
      software: SOFTWARE,
      bootstrap: options.bootstrap,
      started: Date.now(),
      idleLimit: options.idleLimit
    }
    this.#http = createServer((request, response) => void this.#serve(request, response))
    // A verb may take hours without a byte in either direction.
    this.#http.requestTimeout = 0
    this.#http.timeout = 0
  }

  async listen(): Promise<void> {
    await listenOn(this.#http, join(this.#host.home.dir, SOCKET))
  }

  /** How long nothing has happened, in ms; 0 while a verb works, an invite or an image is open. */
  idleFor(): number {
    const { openInvites, openImages } = this.#host
    if (this.#active > 0 || openInvites > 0 || openImages > 0) return 0
    if (this.#host.checkpoints.isAwaited || this.#host.remoteSuspend.isAwaited) return 0
    return performance.now() - Math.max(this.#lastActive, this.#host.lastTraffic)
  }

  /** Takes no more calls; those that have begun are interrupted, and answer before this settles. */
  async close(): Promise<void> {
    this.#isClosing = true
    const closed = new Promise((resolve) => this.#http.close(resolve))
    for (const call of this.#calls.values()) call.abort()
    this.#http.closeIdleConnections()
    await closed
  }

  /** Whether the store is about to be opened anew: a caller comes again in a moment. */
  async #isBetween(): Promise<boolean> {
    const { isBroken, openInvites, openImages } = this.#host
    if (this.#isClosing) return true
    return isBroken && openInvites + openImages === 0 && (await this.#host.canReopen())
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const name = verbOf(request)
    if (name !== null && isVerb(name) && (await this.#isBetween())) {
      response.writeHead(503, { connection: 'close' }).end()
      return
    }
    const abort = new AbortController()
    const call = String(request.headers[CALL_HEADER] ?? '')
    this.#calls.set(call, abort)
    const send = (value: unknown): void => void response.write(`${JSON.stringify(value)}\n`)
    // Progress that the caller does not read is not kept for it.
    const emit = (event: TaskEvent): void => {
      if (event.type === 'note' || !response.writableNeedDrain) send(event)
    }
    const give = async (item: unknown): Promise<void> => {
      send({ type: 'item', item })
      if (response.writableNeedDrain) await once(response, 'drain', { signal: abort.signal })
    }
    response.on('close', () => abort.abort())
    response.setHeader('connection', 'close')
    response.setHeader('content-type', 'application/x-ndjson')
    response.flushHeaders()
    this.#active++
    try {
      const { signal } = abort
      const value = await this.#answer(request, { emit, give, signal })
      send({ type: 'result', value })
    } catch (error) {
      const { code, message } = ParcelError.from(error)
      send({ type: 'error', code, message })
    } finally {
      this.#active--
      this.#calls.delete(call)
      this.#lastActive = performance.now()
      response.end()
    }
  }

  async #answer(
    request: IncomingMessage,
    how: Pick<VerbContext, 'emit' | 'give' | 'signal'>
  ): Promise<unknown> {
    const name = verbOf(request)
    if (request.method !== 'POST' || name === null) {
      throw new ParcelError('USAGE', 'POST /v1/VERB is all there is')
    }
    const body = await readBody(request)
    if (name === 'daemon-status') return { ...this.#status, active: this.#active - 1 }
    if (name === 'daemon-stop') {
      setImmediate(this.#onStop)
      return {}
    }
    if (name === 'daemon-cancel') {
      this.#calls.get(cancelled.parse(body).call)?.abort()
      return {}
    }
    if (!isVerb(name)) throw new ParcelError('USAGE', `no verb "${name}"`)
    return verbs[name].call(body, { host: this.#host, vaults: this.#vaults, ...how })
  }
}

function verbOf({ url = '' }: IncomingMessage): string | null {
  return /^\/v1\/([a-z-]+)$/.exec(url)?.[1] ?? null
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = []
  let size = 0
  for await (const part of request) {
    const bytes = Buffer.from(part)
    size += bytes.byteLength
    if (size > MAX_BODY) throw new ParcelError('USAGE', 'the parameters are too long')
    parts.push(bytes)
  }
  try {
    return JSON.parse(Buffer.concat(parts).toString() || '{}')
  } catch (error) {
    throw new ParcelError('USAGE', 'the parameters are not JSON', error)
  }
}
