import { setTimeout } from 'node:timers/promises'
import type { Answerer } from '../../answerer.js'
import { ParcelError } from '../../errors.js'
import { MAX_ASKED } from '../../format/recipe.js'
import type { SignedRecord } from '../../format/wire.js'
import type { Control } from './control.js'

/** Nobody may have them: asked again after so long, ms, then twice as long. */
const RETRY = { first: 1_000, most: 60_000 } as const
/** More are not kept in one run: a chain of them could be made up without end. */
const MOST_KEPT = 4_096

/**
 * Control records that others follow and that stand in no log which this host reads: those of hosts
 * that were shut out before it had heard of their logs. Whoever followed them has them.
 */
export class MissingRecords {
  readonly #control: Control
  readonly #answerers: () => readonly Answerer[]
  readonly #keep: (records: readonly SignedRecord[]) => Promise<void>
  readonly #closed = new AbortController()
  #isAsking = false
  #kept = 0

  constructor({
    control,
    answerers,
    keep
  }: {
    control: Control
    answerers: () => readonly Answerer[]
    /** Takes in records that were missing, for good. */
    keep: (records: readonly SignedRecord[]) => Promise<void>
  }) {
    this.#control = control
    this.#answerers = answerers
    this.#keep = keep
  }

  /** Asks whoever is connected, in the background, until nothing is missing. */
  ask(): void {
    if (this.#isAsking || this.#kept >= MOST_KEPT || this.#control.missing(1).length === 0) return
    this.#isAsking = true
    this.#askAll()
      .catch(() => {})
      .finally(() => (this.#isAsking = false))
  }

  close(): void {
    this.#closed.abort()
  }

  async #askAll(): Promise<void> {
    const { signal } = this.#closed
    // Most of what is missing is on its way with a log.
    let pause: number = RETRY.first
    await setTimeout(pause, undefined, { signal, ref: false })
    for (;;) {
      const ids = this.#control.missing(MAX_ASKED)
      if (ids.length === 0 || this.#kept >= MOST_KEPT) return
      let found = 0
      for (const answerer of this.#answerers()) found += await this.#askOne(answerer, ids)
      pause = found > 0 ? RETRY.first : Math.min(2 * pause, RETRY.most)
      if (found === 0) await setTimeout(pause, undefined, { signal, ref: false })
      signal.throwIfAborted()
    }
  }

  async #askOne(answerer: Answerer, ids: readonly Buffer[]): Promise<number> {
    const answer = await answerer.records({ kind: 'records', ids: [...ids] }).catch(() => null)
    const wanted = new Set(ids.map((id) => id.toString('hex')))
    const fresh: SignedRecord[] = []
    for (const record of answer ?? []) {
      try {
        // What was not asked for is not taken.
        if (wanted.has(this.#control.idOf(record)) && this.#control.add(record)) fresh.push(record)
      } catch (error) {
        if (ParcelError.from(error).code !== 'INTEGRITY') throw error
      }
    }
    this.#kept += fresh.length
    if (fresh.length > 0) await this.#keep(fresh)
    return fresh.length
  }
}
