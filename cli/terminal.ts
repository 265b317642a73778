import { SingleBar } from 'cli-progress'
import prettyBytes from 'pretty-bytes'
import { ParcelError, type TaskEvent } from '../lib/client.js'
import { EXIT } from './exit.js'

/**
 * The contract with whoever runs us. Results go to standard output, everything else to standard
 * error. On a terminal long work draws a bar; on a pipe it prints a plain line now and then. With
 * --json standard output has one object a line and nothing else: `type` is progress, note, error,
 * or what the result is; standard error stays empty. An error is one line and an exit status.
 */
export class Terminal {
  readonly #isJson: boolean
  #bar: SingleBar | null = null
  #step = ''
  #started = 0
  #lastLine = 0

  constructor({ json }: { json: boolean }) {
    this.#isJson = json
  }

  get isJson(): boolean {
    return this.#isJson
  }

  /** A result: an object for programs, text for people. */
  result(type: string, value: object, text: string): void {
    this.#clear()
    if (this.#isJson) console.log(JSON.stringify({ type, ...value }))
    else console.log(plain(text))
  }

  /** What comes next is to stand where the last results do, on a terminal. */
  fresh(): void {
    if (!this.#isJson && process.stdout.isTTY) process.stdout.write('\u001B[H\u001B[2J')
  }

  /** Something to know that is not the result. */
  note(text: string): void {
    this.#clear()
    if (this.#isJson) console.log(JSON.stringify({ type: 'note', text }))
    else console.error(plain(text))
  }

  event(event: TaskEvent): void {
    if (event.type === 'note') {
      this.note(event.text)
      return
    }
    const now = performance.now()
    if (event.step !== this.#step) {
      this.#clear()
      this.#step = event.step
      this.#started = now
      this.#lastLine = now
    }
    if (this.#isJson) {
      if (event.done < event.total && now - this.#lastLine < 200) return
      this.#lastLine = now
      console.log(JSON.stringify({ ...event, ...this.#speed(event, now) }))
    } else if (process.stderr.isTTY) {
      this.#draw(event, now)
    } else if (now - this.#lastLine > 2_000) {
      this.#lastLine = now
      console.error(this.#line(event, now))
    }
  }

  /** Prints an error and returns its exit status. */
  error(error: unknown): number {
    this.#clear()
    const { code, message } = ParcelError.from(error)
    const exit = EXIT[code]
    if (this.#isJson) console.log(JSON.stringify({ type: 'error', code, message, exit }))
    else console.error(`hyperparcel: ${plain(message.replaceAll('\n', ' '))}`)
    return exit
  }

  #draw(event: TaskEvent & { type: 'progress' }, now: number): void {
    if (this.#bar === null) {
      this.#bar = new SingleBar({
        stream: process.stderr,
        format: '{step} {bar} {percentage}% {detail}',
        hideCursor: true,
        clearOnComplete: true,
        linewrap: false,
        barsize: 24
      })
      this.#bar.start(Math.max(event.total, 1), 0, { step: event.step, detail: '' })
    }
    this.#bar.setTotal(Math.max(event.total, 1))
    this.#bar.update(event.done, { step: event.step, detail: this.#detail(event, now) })
  }

  #line(event: TaskEvent & { type: 'progress' }, now: number): string {
    if (event.total === 0) return `${event.step}…`
    const percent = Math.floor((event.done / event.total) * 100)
    return `${event.step} ${percent}% ${this.#detail(event, now)}`
  }

  #detail(event: TaskEvent & { type: 'progress' }, now: number): string {
    const amount = (n: number): string =>
      event.unit === 'bytes' ? prettyBytes(n) : `${Math.round(n)} ${event.unit}`
    const { rate, eta } = this.#speed(event, now)
    const speed = rate === 0 ? '' : `, ${amount(rate)}/s, ${duration(eta * 1_000)} left`
    return `${amount(event.done)} of ${amount(event.total)}${speed}`
  }

  /** Units a second since the step began, and seconds left at that rate. */
  #speed(
    { done, total }: { done: number; total: number },
    now: number
  ): { rate: number; eta: number } {
    const seconds = (now - this.#started) / 1_000
    const rate = seconds > 0.2 ? done / seconds : 0
    return { rate: Math.round(rate), eta: rate === 0 ? 0 : Math.round((total - done) / rate) }
  }

  #clear(): void {
    this.#bar?.stop()
    this.#bar = null
  }
}

/** Milliseconds as '0.4 s', '12 s', '3 min' or '2 h 5 min'. */
export function duration(ms: number): string {
  const seconds = ms / 1_000
  if (seconds < 10) return `${seconds.toFixed(1)} s`
  if (seconds < 100) return `${Math.round(seconds)} s`
  const minutes = Math.round(seconds / 60)
  return minutes < 100 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** Names and messages come from other hosts: nothing of theirs may steer the terminal. */
function plain(text: string): string {
  return text.replaceAll(/[^\P{C}\n\t\r]/gu, (c) => `\\u{${(c.codePointAt(0) ?? 0).toString(16)}}`)
}

export function bytes(count: number): string {
  return prettyBytes(count)
}
