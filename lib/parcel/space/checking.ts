import type { Work } from '../../progress.js'
import type { WorkerPool } from '../../chunk/worker-pool.js'
import type { LogSet } from '../logs/log-set.js'
import { losses, type Loss } from './lost.js'
import type { OwnLogs } from '../logs/own-logs.js'
import { checkBlocks, type Block, type Checked, type CheckOptions } from './verify.js'

interface Parts {
  set: LogSet
  own: OwnLogs
  pool: WorkerPool
  /** Goes on in new logs: what was signed for before cannot be vouched for without these blocks. */
  goOnWithout: (lost: readonly Block[]) => Promise<void>
}

type How = Pick<CheckOptions, 'isChosen' | 'timeout'> & Partial<Pick<CheckOptions, 'ranges'>>

/** Finds what is damaged of a parcel on this host. */
export class Checking {
  readonly #parts: Parts
  readonly #stopping = new AbortController()
  #running: Promise<unknown> = Promise.resolve()

  constructor(parts: Parts) {
    this.#parts = parts
  }

  async close(): Promise<void> {
    this.#stopping.abort()
    await this.#running
  }

  /**
   * Reads blocks that are here and fetches again what is damaged. What nobody sends is lost: `onLoss`
   * is told what that touches, this host takes back what it has signed for, and what is made from now
   * on needs nothing of it.
   */
  check(how: How, onLoss: ((loss: Loss) => Promise<void>) | null, work: Work): Promise<Checked> {
    // One at a time: what one has forgotten is no damage for another.
    const run = this.#running.then(() => this.#check(how, onLoss, work))
    this.#running = run.catch(() => {})
    return run
  }

  async #check(
    {
      ranges = this.#parts.set.logs().map((log) => ({ log, start: 0, end: log.length })),
      ...how
    }: How,
    onLoss: ((loss: Loss) => Promise<void>) | null,
    work: Work
  ): Promise<Checked> {
    const signal = AbortSignal.any([work.signal, this.#stopping.signal])
    signal.throwIfAborted()
    const { set, own, pool, goOnWithout } = this.#parts
    const current = own.current?.logs ?? []
    const each = { ...work, signal }
    const checked = await checkBlocks(set, { ...how, ranges, current, pool, work: each })
    const { repaired, lost, newlyLost, unproved } = checked
    const damaged = repaired.length + newlyLost.length
    if (damaged > 0) {
      set.problem(
        '',
        `${damaged} blocks were damaged on this disk: ${repaired.length} came again from other ` +
          `hosts, ${newlyLost.length} did not`
      )
      await set.refresh()
    }
    if (unproved.length > 0) {
      set.problem(
        '',
        `what proves ${unproved.length} blocks is damaged on this disk: 'hyperparcel rebuild' ` +
          'fetches all of it anew'
      )
    }
    if (newlyLost.length > 0) await goOnWithout(newlyLost)
    if (onLoss !== null) for await (const loss of losses(set, lost)) await onLoss(loss)
    return checked
  }
}
