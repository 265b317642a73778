import type { WorkerPool } from '../../chunk/worker-pool.js'
import type { Work } from '../../progress.js'

/** How far a commit is, in bytes; of how many becomes known while it is under way. */
export class StoringProgress {
  readonly #work: Work
  readonly #ended = new AbortController()
  readonly #measured: Promise<void>
  #done = 0
  #total: number | null = null
  #isShown = false

  /** Begins to measure the folder; null: there is none. */
  constructor(work: Work, root: string | null, pool: WorkerPool) {
    this.#work = work
    this.#measured = this.#measure(root, pool)
  }

  add(bytes: number): void {
    this.#done += bytes
    this.#show(this.#total)
  }

  /** All of it is stored. */
  finish(): void {
    if (!this.#isShown) this.#show(this.#done)
  }

  /** Whatever became of it: nothing is looked at any more when it settles. */
  async end(): Promise<void> {
    this.#ended.abort()
    await this.#measured
  }

  async #measure(root: string | null, pool: WorkerPool): Promise<void> {
    const { signal } = this.#ended
    // If it fails, only progress is lost.
    const measuring = root === null ? 0 : pool.measure(Buffer.from(root), signal)
    const total = await Promise.resolve(measuring).catch(() => null)
    if (signal.aborted) return
    this.#total = total
    this.#show(total)
  }

  #show(total: number | null): void {
    const done = this.#done
    if (total === null || done === 0) return
    this.#isShown = true
    this.#work.report({ step: 'storing', done, total: Math.max(total, done), unit: 'bytes' })
  }
}
