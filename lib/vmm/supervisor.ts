import { appendFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { createWriteStream } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { z } from 'zod'
import { ParcelError } from '../errors.js'
import { listenOn } from '../local-socket.js'
import type { RunningMachine } from './driver.js'
import { driverNamed } from './drivers.js'
import { LAST_WORDS, SOCKET } from './run-dir.js'
import { CONSOLE_LOG } from './state-files.js'

/** What a supervisor is started with, as JSON in its one argument. */
const specSchema = z.strictObject({
  driver: z.string(),
  dir: z.string(),
  runDir: z.string(),
  resume: z.boolean()
})

/** What a newly attached terminal is shown of what was printed before. */
const REPLAY_BYTES = 16 * 1024
const LOG_BYTES = 1024 * 1024
const MAX_REQUEST = 4_096
/** The last words of a machine that had no time for others. */
const KILLED = 'it was killed'
/** How long a caller may take to read its last answer, ms. */
const FLUSH_LIMIT = 1_000

const requestSchema = z.strictObject({
  verb: z.enum(['status', 'capture', 'proceed', 'end', 'console'])
})

/**
 * The process of one running machine: it owns the monitor, so the machine outlives the verb that
 * started it and a restart of the daemon. Descriptor 3 takes one line when the guest runs, or why
 * it does not; then everything goes over a socket in `runDir`.
 */
async function main(): Promise<void> {
  const ready = createWriteStream('', { fd: 3 })
  let supervisor: Supervisor
  try {
    const spec = specSchema.parse(JSON.parse(process.argv[2] ?? ''))
    const driver = driverNamed(spec.driver)
    const machine = await driver.describe(spec.dir)
    const running = await driver.start(machine, { resume: spec.resume, runDir: spec.runDir })
    supervisor = new Supervisor(running, spec.dir, spec.runDir)
    await supervisor.listen()
  } catch (error) {
    const { code, message } = ParcelError.from(error)
    ready.end(`${JSON.stringify({ code, message })}\n`, () => process.exit(1))
    return
  }
  await writeFile(join(supervisor.runDir, LAST_WORDS), KILLED, { mode: 0o600 })
  ready.end(`${JSON.stringify({ screen: supervisor.running.screen })}\n`)
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.on(name, () => void supervisor.running.end())
  }
  process.on('SIGHUP', () => {})
  const why = await supervisor.running.exited
  await writeFile(join(supervisor.runDir, LAST_WORDS), why ?? '', { mode: 0o600 })
  await supervisor.close()
  process.exit(0)
}

class Supervisor {
  readonly running: RunningMachine
  readonly runDir: string
  readonly #logPath: string
  readonly #started = Date.now()
  readonly #connections = new Map<Socket, Promise<void>>()
  readonly #terminals = new Set<Socket>()
  #replay: Buffer = Buffer.alloc(0)
  #logging: Promise<void> = Promise.resolve()
  #capturer: Socket | null = null

  constructor(running: RunningMachine, dir: string, runDir: string) {
    this.running = running
    this.runDir = runDir
    this.#logPath = join(dir, CONSOLE_LOG)
    running.console.on('data', (bytes: Buffer) => this.#onOutput(bytes))
  }

  async listen(): Promise<void> {
    const server = createServer((socket) => this.#serve(socket))
    await listenOn(server, join(this.runDir, SOCKET))
  }

  /** Nobody can connect any more, and everybody who asked has got an answer. */
  async close(): Promise<void> {
    await rm(join(this.runDir, SOCKET), { force: true })
    await this.#logging
    for (const [socket, answered] of this.#connections) {
      await answered
      const isFlushed = new Promise<void>((resolve) => {
        socket.once('close', () => resolve())
        socket.end(() => resolve())
      })
      await Promise.race([isFlushed, setTimeout(FLUSH_LIMIT)])
    }
  }

  /** Requests come a line at a time, until one turns the connection into a console. */
  #serve(socket: Socket): void {
    let rest = ''
    let answering = Promise.resolve()
    const onData = (bytes: Buffer): void => {
      const lines = (rest + bytes.toString('utf8')).split('\n')
      rest = lines.pop() ?? ''
      if (rest.length > MAX_REQUEST) socket.destroy()
      for (const line of lines) {
        answering = answering.then(async () => {
          const answer = await this.#request(line, socket, () => socket.off('data', onData))
          socket.write(`${JSON.stringify(answer)}\n`)
        })
        this.#connections.set(socket, answering)
      }
    }
    this.#connections.set(socket, answering)
    socket.on('data', onData)
    socket.on('error', () => socket.destroy())
    socket.once('close', () => {
      this.#connections.delete(socket)
      this.#terminals.delete(socket)
      if (this.#capturer === socket) this.#release()
    })
  }

  async #request(
    line: string,
    socket: Socket,
    stopReading: () => void
  ): Promise<Record<string, unknown>> {
    try {
      const { verb } = requestSchema.parse(JSON.parse(line))
      if (verb !== 'console') return await this.#answer(verb, socket)
      stopReading()
      setImmediate(() => this.#attach(socket))
      return {}
    } catch (error) {
      const { code, message } = ParcelError.from(error)
      return { code, message }
    }
  }

  async #answer(
    verb: 'status' | 'capture' | 'proceed' | 'end',
    socket: Socket
  ): Promise<Record<string, unknown>> {
    switch (verb) {
      case 'status':
        return {
          screen: this.running.screen,
          started: this.#started,
          isCaptured: this.#capturer !== null
        }
      case 'capture':
        if (this.#capturer !== null) {
          throw new ParcelError('RUNNING', 'this machine is being suspended already')
        }
        this.#capturer = socket
        try {
          await this.running.capture()
        } catch (error) {
          this.#capturer = null
          throw error
        }
        await this.#logging
        return {}
      case 'proceed':
        this.#capturer = null
        await this.running.proceed()
        return {}
      case 'end':
        this.#capturer = null
        await this.running.end()
        return {}
    }
  }

  /** Whoever had the machine captured is gone without a word: the guest goes on. */
  #release(): void {
    this.#capturer = null
    this.running.proceed().catch(() => {})
  }

  #attach(socket: Socket): void {
    socket.write(this.#replay)
    this.#terminals.add(socket)
    socket.on('data', (bytes: Buffer | string) => this.running.console.write(bytes))
    socket.resume()
  }

  #onOutput(bytes: Buffer): void {
    this.#replay = Buffer.concat([this.#replay, bytes]).subarray(-REPLAY_BYTES)
    // A terminal that does not read is dropped, or it would hold the guest up.
    for (const socket of this.#terminals) {
      if (socket.writableLength > LOG_BYTES) socket.destroy()
      else socket.write(bytes)
    }
    this.#logging = this.#logging.then(() => this.#log(bytes)).catch(() => {})
  }

  async #log(bytes: Buffer): Promise<void> {
    await appendFile(this.#logPath, bytes, { mode: 0o600 })
    if ((await stat(this.#logPath)).size < LOG_BYTES) return
    await rename(this.#logPath, `${this.#logPath}.1`)
  }
}

await main()
