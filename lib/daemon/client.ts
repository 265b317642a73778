import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { lstat, readdir, readFile } from 'node:fs/promises'
import { request, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { ParcelError } from '../errors.js'
import { homeDir } from '../home-dir.js'
import type { KeyFile } from '../keys/key-file.js'
import { jsonLines } from '../lines.js'
import { connectTo } from '../local-socket.js'
import type { TaskEvent } from '../progress.js'
import { ALLOCATOR, DAEMON_FLAGS } from '../tuning.js'
import { CALL_HEADER, SOCKET, type Answer, type DaemonStatus } from './protocol.js'
import type { Item, Parameters, Result, Verb } from './verbs.js'

export interface ClientOptions {
  home?: string
  bootstrap?: string
  /** Asked for the passphrase of a home that has one, when its daemon has to be started. */
  passphrase?: () => Promise<string>
  /** Interrupts every call. */
  signal?: AbortSignal
}

export interface CallOptions {
  onEvent?: (event: TaskEvent) => void
  signal?: AbortSignal
}

interface Asking<I> extends CallOptions {
  onItem?: (item: I) => void
}

const ENDED = 'the daemon ended before it had answered: do it again'

/** So often a verb is asked for that a daemon has not begun with, as one that ends each time. */
const MOST_TRIES = 5

/** How long a daemon may take to open its store and answer. */
const START_LIMIT = 60_000

/** Talks to the daemon of a home and starts it when it is not there. */
export class DaemonClient {
  readonly home: string
  readonly #bootstrap: string | undefined
  readonly #passphrase: (() => Promise<string>) | undefined
  readonly #signal: AbortSignal | undefined

  constructor(options: ClientOptions = {}) {
    this.home = homeDir(options.home)
    this.#bootstrap = options.bootstrap
    this.#passphrase = options.passphrase
    this.#signal = options.signal
  }

  /** Runs a verb in the daemon. Throws what the verb throws; INTERRUPTED when `signal` aborts. */
  async call<V extends Verb>(
    verb: V,
    parameters: Parameters<V>,
    options: CallOptions = {}
  ): Promise<Result<V>> {
    return this.each(verb, parameters, () => {}, options)
  }

  /** Runs a verb that gives many results; `onItem` is told of each, before the last. Throws like `call`. */
  async each<V extends Verb>(
    verb: V,
    parameters: Parameters<V>,
    onItem: (item: Item<V>) => void,
    options: CallOptions = {}
  ): Promise<Result<V>> {
    const { signal = this.#signal } = options
    const how: Asking<Item<V>> = { ...options, onItem }
    if (signal !== undefined) how.signal = signal
    const deadline = Date.now() + START_LIMIT
    for (let tries = 1; ; tries++) {
      try {
        await this.#ensure()
        return await this.#ask<Result<V>>(verb, parameters, how)
      } catch (error) {
        // It ended of idleness between our two looks at it, or opens its store anew, and has not begun.
        if (!(error instanceof NotBegun)) throw error
        if (error.isSoon ? Date.now() > deadline : tries >= MOST_TRIES) throw error
        if (tries > 1) await setTimeout(100, undefined, signal === undefined ? {} : { signal })
      }
    }
  }

  /** null when no daemon runs. */
  async status(): Promise<DaemonStatus | null> {
    if (!(await this.#answers())) {
      await this.#key()
      return null
    }
    return this.#ask<DaemonStatus>('daemon-status', {}, {})
  }

  /** Ends the daemon and waits until the store is closed; false when none ran. */
  async stop(): Promise<boolean> {
    const status = await this.status()
    if (status === null) return false
    await this.#ask('daemon-stop', {}, {})
    while (await isAlive(status.pid)) await setTimeout(20)
    return true
  }

  async #ensure(): Promise<void> {
    if (await this.#answers()) {
      await this.#requireSameDht()
      return
    }
    // Says at once what is wrong with the home, rather than in another process.
    const key = await this.#key()
    const passphrase = key.lock === 'passphrase' ? await this.#askPassphrase() : ''
    const deadline = Date.now() + START_LIMIT
    for (;;) {
      const refusal = await this.#start(passphrase)
      if (refusal === null) return
      // Another verb was faster: its daemon has the store and will answer in a moment.
      if (refusal.code !== 'STORE_IN_USE' || Date.now() > deadline) throw refusal
      await setTimeout(100)
      if (await this.#answers()) return
    }
  }

  /** What opens a home takes time to load, and is not needed where a daemon runs. */
  async #key(): Promise<KeyFile> {
    const { readHome } = await import('../home.js')
    return (await readHome(this.home)).key
  }

  async #requireSameDht(): Promise<void> {
    if (this.#bootstrap === undefined) return
    const { bootstrap } = await this.#ask<DaemonStatus>('daemon-status', {}, {})
    if (bootstrap === this.#bootstrap) return
    throw new ParcelError(
      'USAGE',
      `the daemon uses ${bootstrap === '' ? 'the public DHT' : bootstrap}: ` +
        `'hyperparcel daemon stop' first, then choose another`
    )
  }

  /** Empty: nobody is there to ask. */
  async #askPassphrase(): Promise<string> {
    const given = process.env['HYPERPARCEL_PASSPHRASE'] ?? ''
    return given === '' && this.#passphrase !== undefined ? this.#passphrase() : given
  }

  async #start(passphrase: string): Promise<ParcelError | null> {
    const program = fileURLToPath(new URL('./main.js', import.meta.url))
    const env: NodeJS.ProcessEnv = { ...ALLOCATOR, ...process.env }
    if (this.#bootstrap !== undefined) env['HYPERPARCEL_BOOTSTRAP'] = this.#bootstrap
    // What a process was started with others of its user can read for as long as it runs.
    delete env['HYPERPARCEL_PASSPHRASE']
    const child = spawn(process.execPath, [...DAEMON_FLAGS, program, this.home], {
      detached: true,
      cwd: '/',
      env,
      stdio: ['pipe', 'ignore', 'ignore', 'pipe']
    })
    child.unref()
    // It may refuse to start before it has read that.
    child.stdin?.on('error', () => {})
    child.stdin?.end(passphrase)
    const ready = child.stdio[3]
    if (ready === null || ready === undefined || !('read' in ready)) throw new Error('no pipe')
    for await (const value of jsonLines(ready)) {
      const { code, message = '' } = ofThisBuild<{ code?: string; message?: string }>(value)
      return code === undefined ? null : ParcelError.revive({ code, message })
    }
    return new ParcelError('FAILED', 'the daemon ended as soon as it was started')
  }

  async #answers(): Promise<boolean> {
    try {
      const socket = await connectTo(join(this.home, SOCKET))
      socket.destroy()
      return true
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? error.code : ''
      if (code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'ENOTDIR') return false
      if (await isOthers(this.home)) return false
      throw ParcelError.from(error, 'cannot reach the daemon')
    }
  }

  async #ask<T, I = never>(verb: string, parameters: unknown, options: Asking<I>): Promise<T> {
    const { onEvent, onItem, signal } = options
    signal?.throwIfAborted()
    const call = randomUUID()
    const socket = await connectTo(join(this.home, SOCKET)).catch((error: unknown) => {
      throw new NotBegun(error)
    })
    // The verb answers INTERRUPTED itself, once it has cleaned up behind it.
    const stop = (): void =>
      void this.#ask('daemon-cancel', { call }, {}).catch(() => socket.destroy())
    signal?.addEventListener('abort', stop, { once: true })
    try {
      const response = await new Promise<IncomingMessage>((resolve, reject) => {
        const headers = { [CALL_HEADER]: call }
        const path = `/v1/${verb}`
        const sent = request(
          { method: 'POST', path, headers, createConnection: () => socket },
          resolve
        )
        sent.on('error', (error) => reject(new NotBegun(error)))
        sent.end(JSON.stringify(parameters))
      })
      if (response.statusCode === 503) throw new NotBegun(null, true)
      for await (const value of jsonLines(response)) {
        const message = ofThisBuild<Answer>(value)
        if (message.type === 'error') throw ParcelError.revive(message)
        if (message.type === 'result') return ofThisBuild<T>(message.value)
        if (message.type === 'item') onItem?.(ofThisBuild<I>(message.item))
        else onEvent?.(message)
      }
      throw new ParcelError('FAILED', ENDED)
    } catch (error) {
      if (error instanceof ParcelError) throw error
      throw new ParcelError('FAILED', ENDED, error)
    } finally {
      signal?.removeEventListener('abort', stop)
      socket.destroy()
    }
  }
}

/** The daemon was not there for a call, or went away before it had begun with it. */
class NotBegun extends ParcelError {
  /** Whether it will be there in a moment. */
  readonly isSoon: boolean

  constructor(cause: unknown, isSoon = false) {
    super('FAILED', ENDED, cause)
    this.isSoon = isSoon
  }
}

/** Both ends are of one build: what one writes is of the type that the other reads. */
function ofThisBuild<T>(value: unknown): T {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- see above; checking it with a library took longer than most verbs
  return value as T
}

async function isOthers(home: string): Promise<boolean> {
  const stats = await lstat(home).catch(() => null)
  return stats === null || stats.uid !== process.getuid?.()
}

/**
 * Whether a process has not ended yet; one of another user counts as ended. So does one that nobody has
 * waited for, when all its threads have ended: it has no file open any more, and some containers let it
 * stand for seconds.
 */
export async function isAlive(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0)
  } catch {
    return false
  }
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '')
  if (!/\) [ZX] /.test(stat)) return true
  const threads = await readdir(`/proc/${pid}/task`).catch(() => [])
  return threads.length > 1
}
