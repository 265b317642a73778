import { setTimeout } from 'node:timers/promises'
import type { Answerer } from '../../answerer.js'
import { decompressUpTo } from '../../chunk/compress.js'
import { isNamed } from '../../chunk/id.js'
import { CHUNK_SIZE, HASH_BYTES } from '../../format/limits.js'
import type { Log } from '../../log/log.js'
import type { LogSet } from '../logs/log-set.js'

/** A whole pack of disk is about so much, bytes; where it comes within this time, ms, it is fetched at once. */
const [PACK, SOON] = [400_000, 100]
/** After so many items of one pack all of it is fetched: whoever reads on wants it. */
const MOST_OF_A_PACK = 4
/** An item that has not come by then is asked for no longer, ms, nor is who was asked for a while. */
const [LATE, SHUNNED] = [1_000, 10_000]
/** Nobody has waited for anything for so long, ms: a whole pack may be in the way of who does next. */
const LULL = 2_000
/** A pack that has not come by then is not waited for, ms. */
const LONG = 60_000
const MOST_NOTED = 4_096

/**
 * Single items of packs that are not here, for who waits for one on a slow link: a pack of disk
 * takes a second at 10 Mb/s, what is wanted of it a fiftieth. The pack is fetched when nobody
 * waits any more.
 */
export class SingleItems {
  readonly #set: LogSet
  readonly #answerers: () => readonly Answerer[]
  /** Items that were had of a pack, by its place. */
  readonly #had = new Map<string, number>()
  readonly #shunned = new Map<Answerer, number>()
  readonly #later: { log: Log; block: number }[] = []
  readonly #closed = new AbortController()
  #isFetching = false
  /** Bytes a ms, of what was fetched whole; null: nothing was. */
  #rate: number | null = null

  constructor(set: LogSet, answerers: () => readonly Answerer[]) {
    this.#set = set
    this.#answerers = answerers
  }

  /** How long a block took, ms. */
  took(bytes: number, ms: number): void {
    const rate = bytes / Math.max(ms, 1)
    // What is small says more of the way there and back than of the link, unless that is fast.
    if (bytes < PACK / 4 && rate < Math.max(this.#rate ?? 0, PACK / SOON)) return
    this.#rate = this.#rate === null ? rate : (3 * this.#rate + rate) / 4
  }

  /** The item, true to its id; null when it is better, or necessary, to fetch its pack. */
  async ask({
    core,
    block,
    ordinal,
    id
  }: {
    core: Buffer
    block: number
    ordinal: number | null
    id: Buffer | null
  }): Promise<Buffer | null> {
    const log = this.#set.get(core)
    // A first item can be all of its pack, as those of memory are.
    if (log?.kind !== 'data' || id?.byteLength !== HASH_BYTES || (ordinal ?? 0) === 0) return null
    if (ordinal === null || PACK / (this.#rate ?? 1) < SOON) return null
    const name = `${core.toString('hex', 0, 8)}/${block}`
    const had = this.#had.get(name) ?? 0
    const now = performance.now()
    const answerer = this.#answerers().find((each) => (this.#shunned.get(each) ?? 0) < now)
    if (had >= MOST_OF_A_PACK || answerer === undefined) return null
    this.#note(name, had + 1)
    const asked = answerer.items({
      kind: 'items',
      core,
      blocks: [{ index: block, ordinals: [ordinal] }]
    })
    const answer = await Promise.race([asked, setTimeout(LATE, null, { ref: false })])
    const item = answer === null || answer.byteLength === 0 ? null : await opened(answer)
    if (item === null || !isNamed(item, id)) {
      this.#shunned.set(answerer, performance.now() + SHUNNED)
      return null
    }
    if (!this.#later.some((each) => each.log === log && each.block === block)) {
      this.#later.push({ log, block })
    }
    void this.#fetchLater()
    return item
  }

  close(): void {
    this.#closed.abort()
  }

  #note(name: string, count: number): void {
    this.#had.set(name, count)
    const oldest = this.#had.size > MOST_NOTED ? this.#had.keys().next().value : undefined
    if (oldest !== undefined) this.#had.delete(oldest)
  }

  async #fetchLater(): Promise<void> {
    if (this.#isFetching) return
    this.#isFetching = true
    for (let next = this.#later.shift(); next !== undefined; next = this.#later.shift()) {
      await this.#set.pace.quiet(LULL, this.#closed.signal)
      if (this.#closed.signal.aborted) break
      const { log, block } = next
      if (log.has(block) || log.isDropped(block)) continue
      const { done, cancel } = log.fetch([block])
      const limit = setTimeout(LONG, null, { ref: false, signal: this.#closed.signal })
      // The mirror gets it some day from whoever has it then.
      await Promise.race([done, limit.catch(() => null)])
      cancel()
    }
    this.#isFetching = false
  }
}

/** null: it is not one item. */
async function opened(answer: Buffer): Promise<Buffer | null> {
  const codec = answer[0] === 1 ? 'zstd' : 'none'
  return decompressUpTo(codec, answer.subarray(1), CHUNK_SIZE).catch(() => null)
}
