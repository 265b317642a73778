import { ParcelError } from './errors.js'

/** How far long work has come. `step` is a word for a person; `total` 0 means it is not known yet. */
export interface Progress {
  step: string
  done: number
  total: number
  unit: 'bytes' | 'blocks' | 'files'
}

/** What long work is given: where to report, and when to stop. */
export interface Work {
  report(progress: Progress): void
  /** Something to tell the user that is not progress. */
  note(text: string): void
  signal: AbortSignal
}

export type TaskEvent = ({ type: 'progress' } & Progress) | { type: 'note'; text: string }

/**
 * Long work under way. `await` it for the result, or iterate it for what happens meanwhile:
 * tests, the command line and the daemon all read this one stream. Progress that nobody has read
 * yet is replaced by newer progress, so a slow reader holds nothing up.
 */
export class Task<T> implements PromiseLike<T>, AsyncIterable<TaskEvent> {
  readonly #result: Promise<T>
  readonly #abort = new AbortController()
  #notes: string[] = []
  #progress: Progress | null = null
  #isEnded = false
  #wake: () => void = () => {}

  constructor(run: (work: Work) => Promise<T>, signal?: AbortSignal) {
    const cancel = (): void => this.cancel()
    if (signal?.aborted === true) cancel()
    signal?.addEventListener('abort', cancel, { once: true })
    const work: Work = {
      report: (progress) => {
        this.#progress = progress
        this.#wake()
      },
      note: (text) => {
        this.#notes.push(text)
        this.#wake()
      },
      signal: this.#abort.signal
    }
    const settled = run(work).catch((error: unknown) => {
      throw ParcelError.from(error)
    })
    this.#result = settled.finally(() => {
      signal?.removeEventListener('abort', cancel)
      this.#isEnded = true
      this.#wake()
    })
    this.#result.catch(() => {})
  }

  // oxlint-disable-next-line unicorn/no-thenable -- being awaitable is what a task is for
  then<A = T, B = never>(
    onDone?: ((value: T) => A | PromiseLike<A>) | null,
    onFailed?: ((reason: unknown) => B | PromiseLike<B>) | null
  ): Promise<A | B> {
    return this.#result.then(onDone, onFailed)
  }

  /** Asks the work to stop; it then fails with INTERRUPTED and leaves nothing half-done. */
  cancel(): void {
    this.#abort.abort()
  }

  /** Ends when the work has ended, however it ended; await the task for the outcome. */
  async *[Symbol.asyncIterator](): AsyncGenerator<TaskEvent> {
    for (;;) {
      const woken = new Promise<void>((resolve) => (this.#wake = resolve))
      const notes = this.#notes
      const progress = this.#progress
      this.#notes = []
      this.#progress = null
      for (const text of notes) yield { type: 'note', text }
      if (progress !== null) yield { type: 'progress', ...progress }
      if (this.#notes.length > 0 || this.#progress !== null) continue
      if (this.#isEnded) return
      await woken
    }
  }
}
