import type { Log } from './log.js'
import { Pace } from './pace.js'

/** Blocks asked for at a time: enough to keep a long link full, little enough to cancel. */
const SLICE = 1_024
/** Blocks of `data` are large. */
const DATA_SLICE = 256

/**
 * Keeps a copy of another host's log whole: asks for every block that is missing, and again
 * whenever the log grows. What is here is never fetched again, so a cut transfer goes on where it
 * stopped. `onWhole` is called each time nothing is missing. `shortcut` may bring blocks in another
 * way, and returns those that must be fetched. `pace` says how much it may ask for at a time.
 */
export class Mirror {
  readonly log: Log
  readonly #onWhole: () => void
  readonly #shortcut: (log: Log, blocks: number[]) => Promise<number[]>
  readonly #pace: Pace
  readonly #stops: readonly (() => void)[]
  #isRunning = false
  #isAgain = false
  #isClosed = false
  #cancel: () => void = () => {}

  constructor(
    log: Log,
    onWhole: () => void,
    shortcut: (log: Log, blocks: number[]) => Promise<number[]> = async (_, blocks) => blocks,
    pace = new Pace()
  ) {
    this.#pace = pace
    this.#shortcut = shortcut
    this.log = log
    this.#onWhole = onWhole
    // It may be waiting for blocks which nobody sends any more, or for more than it may now.
    const restart = (): void => {
      this.#run()
      this.#cancel()
    }
    this.#stops = [log.onAppend(() => this.#run()), log.onDrop(restart), pace.onChange(restart)]
    this.#run()
  }

  close(): void {
    this.#isClosed = true
    for (const stop of this.#stops) stop()
    this.#cancel()
  }

  #run(): void {
    this.#isAgain = true
    if (this.#isRunning || this.#isClosed) return
    this.#isRunning = true
    this.#fill().catch(() => {
      // The store is closing; nothing is lost, the next start asks again.
    })
  }

  async #fill(): Promise<void> {
    try {
      while (this.#isAgain && !this.#isClosed) {
        this.#isAgain = false
        if (await this.#fillOnce()) this.#onWhole()
      }
    } finally {
      // With no await since the last look at the flag, no wake-up is lost in between.
      this.#isRunning = false
    }
  }

  /** Whether the log was whole at the end. */
  async #fillOnce(): Promise<boolean> {
    const { length } = this.log
    let from = this.log.contiguousLength
    while (from < length) {
      const most = await this.#pace.turn(this.log.kind === 'data' ? DATA_SLICE : SLICE)
      const { mode } = this.#pace
      if (this.#isClosed) return false
      const began = performance.now()
      const blocks = this.log.missing(from, length, most)
      const last = blocks.at(-1)
      if (last === undefined) break
      const others = await this.#shortcut(this.log, blocks)
      if (this.#isClosed) return false
      // What was a fair share then may be too much by now.
      if (this.#pace.mode !== mode) continue
      // Some may have been dropped meanwhile; nobody would ever send them.
      const wanted = others.filter((index) => !this.log.isDropped(index))
      const { done, cancel } = this.log.fetch(wanted)
      this.#cancel = cancel
      if (!(await done) || this.#isClosed) return false
      this.#pace.took(performance.now() - began)
      from = last + 1
    }
    return length > 0
  }
}
