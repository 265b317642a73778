import { once } from 'node:events'
import type { RunningMachine } from '../../lib/vmm/driver.js'

/** Collects what the guest prints and waits for what it should. */
export class Terminal {
  text = ''
  readonly #running: RunningMachine
  #look: () => void = () => {}

  /** `text` is what the guest had said before it was suspended. */
  constructor(running: RunningMachine, text = '') {
    this.#running = running
    this.text = text
    running.console.on('data', (bytes: Buffer) => {
      this.text += bytes.toString('latin1')
      this.#look()
    })
  }

  type(line: string): void {
    this.#running.console.write(line + '\n')
  }

  /** Settles with the match as soon as the whole text so far has it, in a finished line. */
  until(pattern: RegExp): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const fail = (why: string): void =>
        reject(new Error(`${why} before ${pattern}:\n${this.text}`))
      const timer = setTimeout(() => fail('60 s went by'), 60_000)
      this.#look = () => {
        const found = pattern.exec(this.text.slice(0, this.text.lastIndexOf('\n') + 1))
        if (found === null) return
        clearTimeout(timer)
        this.#look = () => {}
        resolve(found)
      }
      this.#look()
      void this.#running.exited.then(() => {
        clearTimeout(timer)
        fail('QEMU ended')
      })
    })
  }

  lastTick(): number {
    return ticks(this.text).at(-1)?.tick ?? 0
  }

  /** Everything, once the machine has ended and its last bytes are here. */
  async all(): Promise<string> {
    const { console } = this.#running
    if (!console.closed) await once(console, 'close')
    return this.text
  }
}

/** The test guest's ticks, oldest first; `uptime` in seconds. Only lines that are whole. */
export function ticks(text: string): { tick: number; uptime: number }[] {
  const lines = text.matchAll(/tick (\d+) uptime ([\d.]+)\r\n/g)
  return [...lines].map((line) => ({ tick: Number(line[1]), uptime: Number(line[2]) }))
}
