import type { Answerer } from '../../answerer.js'
import { PACK_ITEMS, SEGMENT_SIZE } from '../../chunk/buffers.js'
import { decompress } from '../../chunk/compress.js'
import type { WorkerPool } from '../../chunk/worker-pool.js'
import { HASH_BYTES } from '../../format/limits.js'
import { rawLength } from '../../format/pack.js'
import { MAX_ASKED, MAX_ITEMS_RAW, type Recipe } from '../../format/recipe.js'
import type { Keyring } from '../../keys/keyring.js'
import type { Log } from '../../log/log.js'
import type { LogSet } from '../logs/log-set.js'
import type { Lookaside } from './lookaside.js'

const BATCH = 32
/** Blocks of a batch that are made side by side: each takes some megabytes. */
const AT_ONCE = 6
/** Less of a pack than this is known: it is not worth a question about the rest. */
const WORTH = 1 / 2
/** Packs in a row of which nothing was known, until the next ones are fetched as they are. */
const MISSES = 8
/** How many then; it doubles. */
const FIRST_PAUSE = 64
const LONGEST_PAUSE = 4_096

/**
 * Makes blocks of other hosts' logs from what this host has already, in any parcel: a member gives
 * a block's recipe, the items that nobody here knows, and a proof; the block that is made must be
 * the very same, byte for byte, or the log does not take it and it is fetched as it is. A member
 * can tell from what it is not asked for what is known here.
 */
export class Synthesis {
  readonly #set: LogSet
  readonly #keyring: Keyring
  readonly #pool: WorkerPool
  readonly #lookaside: Lookaside
  readonly #pauses = new Map<Log, { misses: number; left: number; next: number }>()
  /** Who can be asked now; the swarm keeps it. */
  answerers: () => readonly Answerer[] = () => []

  constructor(set: LogSet, keyring: Keyring, pool: WorkerPool, lookaside: Lookaside) {
    this.#set = set
    this.#keyring = keyring
    this.#pool = pool
    this.#lookaside = lookaside
  }

  /** Makes of the blocks what it can; returns the others. Never throws: what fails is fetched. */
  async fill(log: Log, blocks: readonly number[]): Promise<number[]> {
    const isPossible = log.kind === 'data' && this.#lookaside.hasOther(this.#set)
    if (!isPossible || this.answerers().length === 0) return [...blocks]
    const left: number[] = []
    const pause = this.#pauses.get(log) ?? { misses: 0, left: 0, next: FIRST_PAUSE }
    this.#pauses.set(log, pause)
    for (let at = 0; at < blocks.length; at += BATCH) {
      const batch = blocks.slice(at, at + BATCH)
      if (pause.left > 0) {
        pause.left -= batch.length
        left.push(...batch)
        continue
      }
      const others = await this.#make(log, batch).catch(() => batch)
      left.push(...others)
      if (others.length < batch.length) {
        pause.misses = 0
        pause.next = FIRST_PAUSE
      } else {
        // A log's first block is none that could be known.
        pause.misses += others.filter((index) => index > 0).length
      }
      if (pause.misses < MISSES) continue
      pause.misses = 0
      pause.left = pause.next
      pause.next = Math.min(2 * pause.next, LONGEST_PAUSE)
    }
    return left
  }

  /** The blocks of a batch that could not be made. */
  async #make(log: Log, batch: readonly number[]): Promise<number[]> {
    const [answerer] = this.answerers()
    if (answerer === undefined || batch.length > MAX_ASKED) return [...batch]
    const blocks = []
    for (const index of batch) blocks.push({ index, nodes: await log.missingNodes(index) })
    const recipes = await answerer.recipes({ kind: 'recipes', core: log.key, blocks })
    if (recipes === null) return [...batch]
    const left: number[] = []
    const makeOne = async (index: number, recipe: Recipe | null): Promise<void> => {
      const isMade =
        recipe !== null && (await this.#makeOne(log, index, recipe, answerer).catch(() => false))
      if (!isMade) left.push(index)
    }
    const waiting = batch.map((index, n) => ({ index, recipe: recipes[n] ?? null }))
    const makeNext = async (): Promise<void> => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        await makeOne(next.index, next.recipe)
      }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, makeNext))
    return left.toSorted((a, b) => a - b)
  }

  async #makeOne(log: Log, index: number, recipe: Recipe, answerer: Answerer): Promise<boolean> {
    const { items, kind, codec, nonce, keyId, fork, proof } = recipe
    const sealing = this.#keyring.sealingKeyOf(keyId)
    const isOurSize = rawLength(items) <= SEGMENT_SIZE && items.length <= PACK_ITEMS
    if (sealing === null || !isOurSize) return false
    const found = await this.#lookaside.find(items.map(({ id }) => id))
    if (!(await this.#complete(found, { log, index, recipe, answerer }))) return false
    const raw = this.#pool.segmentBuffer()
    const ids = new Uint8Array(items.length * HASH_BYTES)
    let end = 0
    for (const [n, { id, length }] of items.entries()) {
      const bytes = found[n]
      if (bytes?.byteLength !== length) return false
      new Uint8Array(raw).set(bytes, end)
      ids.set(id, n * HASH_BYTES)
      end += length
    }
    const lengths = Uint32Array.from(items, ({ length }) => length)
    const made = await this.#pool.pack({
      of: kind,
      raw,
      ids,
      lengths,
      compress: codec === 'zstd',
      again: { codec, nonce },
      sealing,
      core: log.key,
      index
    })
    try {
      return await log.insert(index, made.bytes, fork, proof)
    } finally {
      made.release()
    }
  }

  /** Asks for the items that are not here; false when that is not worth it, or in vain. */
  async #complete(
    found: (Buffer | null)[],
    what: { log: Log; index: number; recipe: Recipe; answerer: Answerer }
  ): Promise<boolean> {
    const { log, index, recipe, answerer } = what
    const missing = found.flatMap((bytes, n) => (bytes === null ? [n] : []))
    if (missing.length === 0) return true
    const length = missing.reduce((sum, n) => sum + (recipe.items[n]?.length ?? 0), 0)
    if (length > (1 - WORTH) * rawLength(recipe.items) || length > MAX_ITEMS_RAW) return false
    const blocks = [{ index, ordinals: missing }]
    const answer = await answerer.items({ kind: 'items', core: log.key, blocks })
    if (answer === null || answer.byteLength === 0) return false
    const codec = answer[0] === 1 ? 'zstd' : 'none'
    const raw = await decompress(codec, answer.subarray(1), length)
    let end = 0
    for (const n of missing) {
      const size = recipe.items[n]?.length ?? 0
      found[n] = raw.subarray(end, (end += size))
    }
    return true
  }
}
