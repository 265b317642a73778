import type { ChildProcess } from 'node:child_process'
import { appendFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { createWriteStream } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { z } from 'zod'
import { ParcelError } from '../errors.js'
import { LATER } from '../export/launch.js'
import { jsonLines } from '../lines.js'
import { listenOn } from '../local-socket.js'
import type { Driver, RunningMachine } from './driver.js'
import { driverNamed } from './drivers.js'
import { imagesSpec, serveImages, type MachineImages } from './machine-images.js'
import { LAST_WORDS, SOCKET } from './run-dir.js'
import { CONSOLE_LOG } from './state-files.js'

/** What a supervisor is started with, as JSON in its one argument, or in the first line that it reads. */
const specSchema = z.strictObject({
  driver: z.string(),
  dir: z.string(),
  runDir: z.string(),
  resume: z.boolean(),
  /** null: all of the machine is in its folder. */
  images: imagesSpec.nullable()
})

/** What a newly attached terminal is shown of what was printed before. */
const REPLAY_BYTES = 16 * 1024
const LOG_BYTES = 1024 * 1024
const MAX_REQUEST = 4_096
/** The last words of a machine that had no time for others. */
const KILLED = 'it was killed'
/** How long a monitor may take to stop or to end, before we look at what it waits for, ms. */
const PATIENCE = 1_500
/** So many looks in a row that find it waiting: then it is stuck. */
const STUCK = 6
/** So long after its monitor images may be noticed to have ended, ms. */
const NOTICED = 500
/** How long a caller may take to read its last answer, ms. */
const FLUSH_LIMIT = 1_000

const requestSchema = z.strictObject({
  verb: z.enum(['status', 'settle', 'capture', 'proceed', 'end', 'console'])
})

/**
 * The process of one running machine: it owns the monitor, so the machine outlives the verb that
 * started it and a restart of the daemon. Descriptor 3 takes one line when the guest runs, or why
 * it does not; then everything goes over a socket in `runDir`. `prepared`: a process that can serve its images.
 */
export async function supervise(prepared: ChildProcess | null): Promise<void> {
  const ready = createWriteStream('', { fd: 3 })
  let supervisor: Supervisor
  try {
    const [, , argument = ''] = process.argv
    const spec = specSchema.parse(argument === LATER ? await whatToRun() : JSON.parse(argument))
    if (spec.images === null && prepared?.connected === true) prepared.disconnect()
    const driver = driverNamed(spec.driver)
    const { running, images } = await start(driver, spec, prepared)
    supervisor = new Supervisor(running, images, spec.dir, spec.runDir)
    await supervisor.listen()
  } catch (error) {
    const { code, message } = ParcelError.from(error)
    ready.end(`${JSON.stringify({ code, message })}\n`, () => process.exit(1))
    return
  }
  await writeFile(join(supervisor.runDir, LAST_WORDS), KILLED, { mode: 0o600 })
  ready.end(`${JSON.stringify({ screen: supervisor.running.screen })}\n`)
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.on(name, () => void supervisor.end())
  }
  process.on('SIGHUP', () => {})
  const why = (await supervisor.lost()) ?? (await supervisor.running.exited)
  await writeFile(join(supervisor.runDir, LAST_WORDS), why ?? '', { mode: 0o600 })
  await supervisor.close()
  process.exit(0)
}

/** What comes on standard input; when nothing does, nothing is to be run after all. */
async function whatToRun(): Promise<unknown> {
  for await (const line of jsonLines(process.stdin)) return line
  process.exit(0)
}

/** Serves what is to be served, then starts the monitor. */
async function start(
  driver: Driver,
  { dir, runDir, resume, images: spec }: z.infer<typeof specSchema>,
  prepared: ChildProcess | null
): Promise<{ running: RunningMachine; images: MachineImages | null }> {
  let images: MachineImages | null = null
  driver.prepareStart?.()
  if (spec !== null) {
    // What that takes to load is of no use to whoever has a server for it.
    images = driver.needsServer
      ? await serveImages(spec, runDir, prepared)
      : await (await import('./images-here.js')).openImages(spec)
  }
  try {
    const machine = await driver.describe(dir, images?.served ?? null)
    return { running: await driver.start(machine, { resume, runDir }), images }
  } catch (error) {
    await images?.abandon()
    await images?.end()
    throw error
  }
}

class Supervisor {
  readonly running: RunningMachine
  readonly runDir: string
  readonly #images: MachineImages | null
  readonly #logPath: string
  readonly #started = Date.now()
  readonly #connections = new Map<Socket, Promise<void>>()
  readonly #terminals = new Set<Socket>()
  #replay: Buffer = Buffer.alloc(0)
  #logging: Promise<void> = Promise.resolve()
  #capturer: Socket | null = null
  #capturing: Promise<void> | null = null

  constructor(running: RunningMachine, images: MachineImages | null, dir: string, runDir: string) {
    this.running = running
    this.#images = images
    this.runDir = runDir
    this.#logPath = join(dir, CONSOLE_LOG)
    running.console.on('data', (bytes: Buffer) => this.#onOutput(bytes))
  }

  async listen(): Promise<void> {
    const server = createServer((socket) => this.#serve(socket))
    await listenOn(server, join(this.runDir, SOCKET))
  }

  /**
   * Ends the monitor at once. One that waits for a page that does not come cannot even be killed: it
   * is given an error instead, which it does not survive.
   */
  async end(): Promise<void> {
    const ended = this.running.end()
    const isGone = await Promise.race([ended.then(() => true), setTimeout(PATIENCE, false)])
    if (!isGone) await this.#images?.abandon()
    await ended
  }

  /**
   * Settles when the machine has ended. Its images may be what ended: a guest without disk or memory
   * is not let go on, and the text says what became of it.
   */
  async lost(): Promise<string | null> {
    if (this.#images === null) return null
    // A monitor that ends because its images are gone may be noticed before them.
    const ended = this.running.exited.then((reason) =>
      reason === null ? null : setTimeout(NOTICED, null)
    )
    const why = await Promise.race([ended, this.#images.exited])
    if (why === null) return null
    await this.running.end()
    return `${why}; what the guest did since it was resumed or checkpointed is lost`
  }

  /** Nobody can connect any more, and everybody who asked has got an answer. */
  async close(): Promise<void> {
    await rm(join(this.runDir, SOCKET), { force: true })
    await this.#images?.end()
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
    verb: 'status' | 'settle' | 'capture' | 'proceed' | 'end',
    socket: Socket
  ): Promise<Record<string, unknown>> {
    switch (verb) {
      case 'status':
        return {
          screen: this.running.screen,
          started: this.#started,
          isCaptured: this.#capturer !== null,
          cpuTime: await this.running.cpuTime(),
          images: (await this.#images?.status().catch(() => null)) ?? null
        }
      case 'settle':
        await this.running.settle?.()
        await this.#images?.flush()
        return {}
      case 'capture':
        if (this.#capturer !== null) {
          throw new ParcelError('RUNNING', 'this machine is being suspended already')
        }
        this.#capturer = socket
        try {
          await this.#capture()
        } catch (error) {
          this.#capturer = null
          throw error
        }
        await this.#logging
        return { facts: this.running.facts }
      case 'proceed':
        this.#capturer = null
        await this.running.proceed()
        return {}
      case 'end':
        this.#capturer = null
        await this.end()
        return {}
    }
  }

  /**
   * A guest that waits for what no host sends cannot be stopped: that is said after a while. What
   * was begun cannot be called off; whoever asks again meanwhile waits for that.
   */
  async #capture(): Promise<void> {
    const images = this.#images
    this.#capturing ??= this.#startCapture()
    const captured = this.#capturing
    if (images === null) return captured
    let isOver = false
    const done = captured.finally(() => (isOver = true))
    done.catch(() => {})
    for (let stuck = 0; !isOver;) {
      await Promise.race([done, setTimeout(PATIENCE)])
      if (isOver) break
      const { waiting, troubles } = await images.status()
      stuck = waiting > 0 || troubles.length > 0 ? stuck + 1 : 0
      // It may have come about while we looked.
      if (isOver || stuck < STUCK) continue
      const why =
        troubles[0] ??
        `it waits for ${waiting === 1 ? 'a block' : `${waiting} blocks`} that no host sends: bring one online that has the rest`
      throw new ParcelError('UNREACHABLE', `the guest cannot be stopped: ${why}`)
    }
    await done
    await images.flush()
  }

  /** When it has come about and nobody waits for it any more, the guest goes on. */
  async #startCapture(): Promise<void> {
    try {
      await this.running.capture()
    } finally {
      this.#capturing = null
    }
    if (this.#capturer === null) this.#release()
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
