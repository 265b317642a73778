import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { z } from 'zod'
import { ALLOCATOR, DAEMON_FLAGS } from '../../../lib/tuning.js'
import { endWithUs } from '../scratch.js'

const Call = z.object({ id: z.number(), call: z.string(), args: z.array(z.string()) })
const Reply = z.object({ id: z.number(), value: z.unknown(), error: z.string().optional() })

/** One of the two ends: a process of its own that is told what to do, a call at a time. */
export class End {
  readonly #child: ChildProcess
  #next = 0

  private constructor(child: ChildProcess) {
    this.#child = child
  }

  static start(program: string, ...args: string[]): Promise<End> {
    return End.startBehind([], program, ...args)
  }

  /** `prefix`: a program that runs it, on another host. */
  static async startBehind(
    prefix: readonly string[],
    program: string,
    ...args: string[]
  ): Promise<End> {
    const [file = '', ...rest] = [...prefix, process.execPath, ...DAEMON_FLAGS, program, ...args]
    const child = spawn(file, rest, {
      env: { ...ALLOCATOR, ...process.env },
      stdio: ['ignore', 'ignore', 'inherit', 'ipc']
    })
    endWithUs(child)
    await once(child, 'message')
    return new End(child)
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  /** Throws what the other process threw, or that it is gone. */
  async call(call: string, ...args: string[]): Promise<unknown> {
    const id = this.#next++
    return new Promise((resolve, reject) => {
      const onMessage = (message: unknown): void => {
        const reply = Reply.parse(message)
        if (reply.id !== id) return
        this.#child.off('message', onMessage).off('exit', onExit)
        if (reply.error === undefined) resolve(reply.value)
        else reject(new Error(`${call}: ${reply.error}`))
      }
      const onExit = (): void => reject(new Error(`${call}: the other process ended`))
      this.#child.on('message', onMessage).once('exit', onExit)
      this.#child.send({ id, call, args })
    })
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null) return
    const ended = once(this.#child, 'exit')
    this.#child.disconnect()
    await ended
  }
}

/** The other side: answers calls until whoever started it lets go, then closes. */
export function serve(
  calls: Record<string, (...args: string[]) => Promise<unknown>>,
  close: () => Promise<void>
): void {
  process.on('message', (message) => {
    const { id, call, args } = Call.parse(message)
    const work = calls[call]
    if (work === undefined) throw new Error(`no call ${call}`)
    work(...args).then(
      (value) => process.send?.({ id, value: value ?? null }),
      (error: unknown) => process.send?.({ id, value: null, error: String(error) })
    )
  })
  process.on('disconnect', () => {
    void close().finally(() => process.exit(0))
  })
  process.send?.('ready')
}
