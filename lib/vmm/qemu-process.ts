import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { Socket } from 'node:net'
import { finished } from 'node:stream/promises'
import { ParcelError } from '../errors.js'

/** The program, found through PATH. */
export const QEMU = 'qemu-system-x86_64'

/** What to tell a user who does not have it. */
export const INSTALL_QEMU =
  'install QEMU: apt install qemu-system-x86 (Debian, Ubuntu), dnf install qemu-system-x86 (Fedora)'

/** Descriptors at which QEMU finds our ends of its monitor and of the guest's serial port. */
export const MONITOR_FD = 3
export const CONSOLE_FD = 4

const END_LIMIT_MS = 5000
const STDERR_KEPT = 4096

/** QEMUs of this process; none may outlive it. */
const alive = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of alive) child.kill('SIGKILL')
})

/**
 * One QEMU, a child of this process. Its monitor and serial port are socket pairs that it
 * inherits, so nobody else can reach them and no path can be too long for a unix socket.
 */
export class QemuProcess {
  readonly pid: number
  readonly monitor: Socket
  readonly console: Socket
  /** Settles when QEMU has ended and its last words are in; null when `end` was called. */
  readonly exited: Promise<string | null>
  readonly #child: ChildProcess
  #stderr = ''
  #asked = false
  #ended = false
  /** Set by the owner when QEMU announced why it is about to end. */
  reason: string | null = null

  private constructor(child: ChildProcess, pid: number) {
    this.#child = child
    this.pid = pid
    this.monitor = socketAt(child, MONITOR_FD)
    this.console = socketAt(child, CONSOLE_FD)
    // A guest that switches off while someone types breaks the pipe; 'close' tells the reader enough.
    this.console.on('error', () => {})
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_KEPT)
    })
    alive.add(child)
    this.exited = this.#watch()
  }

  /**
   * Starts QEMU in `runDir`, in a session of its own: a Ctrl-C in our terminal is not the guest's.
   * `by`: a program that starts it. Throws VMM_FAILED when there is no QEMU to start.
   */
  static async launch(
    args: string[],
    runDir: string,
    by: readonly string[] = []
  ): Promise<QemuProcess> {
    const [program = QEMU, ...rest] = [...by, QEMU, ...args]
    const child = spawn(program, rest, {
      cwd: runDir,
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe']
    })
    try {
      await once(child, 'spawn')
    } catch (error) {
      throw new ParcelError('VMM_FAILED', `cannot start ${QEMU}: ${INSTALL_QEMU}`, error)
    }
    if (child.pid === undefined) throw new Error('a spawned process has a pid')
    return new QemuProcess(child, child.pid)
  }

  /** What QEMU last wrote to its stderr, in one line; the empty string when it said nothing. */
  get words(): string {
    return this.#stderr
      .split('\n')
      .map((line) => line.replace(/^\S*qemu-system-x86_64: /, '').trim())
      .filter((line) => line !== '')
      .join('; ')
  }

  /**
   * Ends QEMU: `quit` asks it to (its failure does not matter), and after 5 s it is killed.
   * Settles when it is gone, which can take as long as a page-in of its memory that nobody answers.
   */
  async end(quit: () => Promise<unknown>): Promise<void> {
    this.#asked = true
    if (this.#ended) return
    quit().catch(() => {})
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), END_LIMIT_MS)
    await this.exited
    clearTimeout(timer)
  }

  async #watch(): Promise<string | null> {
    const stderr = this.#child.stderr
    const drained = stderr === null ? null : finished(stderr).catch(() => {})
    const status = await new Promise<string>((resolve) => {
      this.#child.once('exit', (code, signal) => resolve(signal ?? `status ${code}`))
    })
    this.#ended = true
    alive.delete(this.#child)
    await drained
    if (this.#asked) return null
    if (this.reason !== null) return this.reason
    const hint =
      status === 'SIGBUS'
        ? ' (its memory file could not be read or written: is the disk full?)'
        : ''
    return `QEMU ended with ${status}${hint}` + (this.words === '' ? '' : `: ${this.words}`)
  }
}

function socketAt(child: ChildProcess, fd: 3 | 4): Socket {
  const stream = child.stdio[fd]
  if (!(stream instanceof Socket)) throw new Error(`descriptor ${fd} of a child is a socket`)
  return stream
}
