import { spawn, type ChildProcess } from 'node:child_process'
import { mkdir, readFile, rm } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { ParcelError } from '../errors.js'
import { jsonLines } from '../lines.js'
import { connectTo } from '../local-socket.js'
import { serverStatus } from '../export/image-process.js'
import { LATER } from '../export/launch.js'
import type { Facts } from './driver.js'
import type { ImagesSpec } from './machine-images.js'
import { LAST_WORDS, SOCKET, WITH_IMAGES } from './run-dir.js'

const failureSchema = z.object({ code: z.string(), message: z.string() })
const startedSchema = z.object({ screen: z.string().nullable() })
const statusSchema = z.object({
  screen: z.string().nullable(),
  started: z.number(),
  isCaptured: z.boolean(),
  cpuTime: z.number().nullable().default(null),
  /** Of a machine whose disk or memory is served out of a version. */
  images: serverStatus.nullable()
})
const capturedSchema = z.object({ facts: z.record(z.string(), z.string()) })

export type MachineStatus = z.infer<typeof statusSchema>

/** A running machine as seen from another process, by its folder for sockets. */
export class MachineProcess {
  readonly #runDir: string
  /** A supervisor that waits to be told what to run, and by what programs it was started. */
  #prepared: { child: ChildProcess; by: readonly string[] } | null = null

  constructor(runDir: string) {
    this.#runDir = runDir
  }

  /**
   * Starts a supervisor that `start` then need not wait for; `hasImages`: a process that serves images too. It
   * ends with this process, or by `unprepare`, as long as it runs nothing.
   */
  prepare({ by, hasImages }: { by: readonly string[]; hasImages: boolean }): void {
    if (this.#prepared !== null) return
    const child = launch(by, [LATER, this.#runDir, ...(hasImages ? [WITH_IMAGES] : [])])
    // That it could not be started, or has ended, is noticed when it is wanted.
    child.on('error', () => {})
    child.stdin?.on('error', () => {})
    this.#prepared = { child, by }
  }

  unprepare(): void {
    this.#prepared?.child.stdin?.end()
    this.#prepared = null
  }

  /** Starts a supervisor, detached, and waits until the guest runs. Throws VMM_FAILED, BAD_MACHINE. */
  async start(spec: {
    driver: string
    dir: string
    resume: boolean
    images: ImagesSpec | null
    /** Programs to start it by, such as one that makes a mount namespace. */
    by: readonly string[]
  }): Promise<string | null> {
    const { by, ...rest } = spec
    await mkdir(this.#runDir, { recursive: true, mode: 0o700 })
    await rm(join(this.#runDir, LAST_WORDS), { force: true })
    const argument = JSON.stringify({ ...rest, runDir: this.#runDir })
    const prepared = this.#prepared
    const isUsable =
      prepared !== null &&
      prepared.by.join(' ') === by.join(' ') &&
      prepared.child.pid !== undefined &&
      prepared.child.exitCode === null
    const child = isUsable ? prepared.child : launch(by, [argument])
    if (isUsable) {
      this.#prepared = null
      child.stdin?.end(`${argument}\n`)
    } else this.unprepare()
    child.unref()
    const ready = child.stdio[3]
    if (!isReadable(ready)) throw new Error('asked for a pipe')
    for await (const line of jsonLines(ready)) {
      throwFailure(line)
      return startedSchema.parse(line).screen
    }
    throw new ParcelError('VMM_FAILED', 'the machine ended as soon as it was started')
  }

  /** null when the machine is not running. */
  async status(): Promise<MachineStatus | null> {
    const session = await this.#open()
    if (session === null) return null
    try {
      return statusSchema.parse(await session.ask('status'))
    } catch (error) {
      if (error instanceof ParcelError && error.code === 'NOT_RUNNING') return null
      throw error
    } finally {
      session.close()
    }
  }

  /** Why the machine ended last time; null when it was asked to, or never ran. */
  async lastWords(): Promise<string | null> {
    try {
      return (await readFile(join(this.#runDir, LAST_WORDS), 'utf8')) || null
    } catch {
      return null
    }
  }

  /** Has what the guest changed so far written to its files while it runs on. Throws NOT_RUNNING. */
  async settle(): Promise<void> {
    const session = await this.#require()
    try {
      await session.ask('settle')
    } finally {
      session.close()
    }
  }

  /**
   * Stops the guest with all of its state in its folder while `work` runs; afterwards it ends or
   * goes on. If `work` fails, or this process dies, the guest goes on. Throws NOT_RUNNING.
   */
  async captured<T>(
    after: 'proceed' | 'end',
    work: (facts: Facts) => Promise<T>
  ): Promise<{ result: T; paused: number }> {
    const session = await this.#require()
    const began = performance.now()
    try {
      const { facts } = capturedSchema.parse(await session.ask('capture'))
      let result: T
      try {
        result = await work(facts)
      } catch (error) {
        // What went wrong first is what the user should hear of.
        await session.ask('proceed').catch(() => {})
        throw error
      }
      // A machine that has ended by itself meanwhile is no reason to call a durable version failed.
      await session.ask(after).catch((error: unknown) => {
        if (after !== 'end') throw error
      })
      const paused = performance.now() - began
      if (after === 'end') await session.ended()
      return { result, paused }
    } finally {
      session.close()
    }
  }

  /** Ends the guest at once; what it has not suspended is gone. Throws NOT_RUNNING. */
  async end(): Promise<void> {
    const session = await this.#require()
    try {
      await session.ask('end')
      await session.ended()
    } finally {
      session.close()
    }
  }

  /** The guest's console, both ways. Throws NOT_RUNNING. */
  async console(): Promise<Socket> {
    const session = await this.#require()
    session.socket.write(`${JSON.stringify({ verb: 'console' })}\n`)
    const first = await firstLine(session.socket)
    throwFailure(first)
    return session.socket
  }

  async #require(): Promise<Session> {
    const session = await this.#open()
    if (session === null) throw new ParcelError('NOT_RUNNING', 'this machine is not running')
    return session
  }

  async #open(): Promise<Session | null> {
    try {
      return new Session(await connectTo(join(this.#runDir, SOCKET)))
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? error.code : ''
      if (code === 'ENOENT' || code === 'ECONNREFUSED') return null
      throw ParcelError.from(error, 'cannot reach the machine')
    }
  }
}

/** Starts a supervisor, by programs that must come before it, such as one that makes a mount namespace. */
function launch(by: readonly string[], args: readonly string[]): ChildProcess {
  const program = fileURLToPath(new URL('./supervisor.js', import.meta.url))
  const [command, ...rest] = [...by, process.execPath, program, ...args]
  return spawn(command ?? process.execPath, rest, {
    detached: true,
    cwd: '/',
    stdio: [args[0] === LATER ? 'pipe' : 'ignore', 'ignore', 'ignore', 'pipe']
  })
}

class Session {
  readonly socket: Socket
  #answers: AsyncGenerator | null = null

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('error', () => socket.destroy())
  }

  async ask(verb: string): Promise<unknown> {
    this.#answers ??= jsonLines(this.socket)
    this.socket.write(`${JSON.stringify({ verb })}\n`)
    const answer = await this.#answers.next().catch(() => null)
    if (answer === null || answer.done === true) {
      throw new ParcelError('NOT_RUNNING', 'the machine has ended')
    }
    throwFailure(answer.value)
    return answer.value
  }

  /** Waits until the other side has hung up, which it does when the machine is gone. */
  async ended(): Promise<void> {
    await this.#answers?.next().catch(() => {})
  }

  close(): void {
    this.socket.destroy()
  }
}

/** Reads one line and leaves the rest of the stream as it is. */
async function firstLine(socket: Socket): Promise<unknown> {
  let line = ''
  for (;;) {
    const byte: unknown = socket.read(1)
    if (Buffer.isBuffer(byte)) {
      if (byte[0] === 0x0a) return JSON.parse(line)
      line += byte.toString('latin1')
    } else {
      await new Promise((resolve, reject) => {
        socket.once('readable', resolve)
        socket.once('close', () => reject(new ParcelError('NOT_RUNNING', 'the machine has ended')))
      })
    }
  }
}

function throwFailure(value: unknown): void {
  const failure = failureSchema.safeParse(value)
  if (!failure.success) return
  throw ParcelError.revive(failure.data)
}

function isReadable(stream: Readable | Writable | null | undefined): stream is Readable {
  return stream !== null && stream !== undefined && 'read' in stream
}
