import { setTimeout } from 'node:timers/promises'
import { ParcelError } from '../../errors.js'
import type { WorkerPool } from '../../chunk/worker-pool.js'
import type { Log } from '../../log/log.js'
import type { Work } from '../../progress.js'
import type { LogSet } from '../logs/log-set.js'

/** Blocks that are read side by side. */
const AT_ONCE = 8
/** Blocks that are asked for at a time, and how long, ms: then it is the next ones' turn. */
const [WINDOW, TURN] = [64, 2_000]

/** A block of a log of a parcel. */
export interface Block {
  log: Log
  index: number
}

export interface Checked {
  /** Blocks that were read, and their bytes. */
  blocks: number
  bytes: number
  /** Those that were damaged, and came again whole from another host. */
  repaired: Block[]
  /** Those that no host has sent, also of earlier times. They are not here. */
  lost: Block[]
  /** Those of `lost` that were found damaged now. */
  newlyLost: Block[]
  /** Whole ones of which what proves them is damaged. */
  unproved: Block[]
}

export interface CheckOptions {
  pool: WorkerPool
  /** Blocks that are looked at: of each log those in [start, end). */
  ranges: readonly { log: Log; start: number; end: number }[]
  /** Whether one of them is. */
  isChosen: () => boolean
  /** Logs that this host writes now: what they lack is lost. */
  current: readonly Log[]
  /** How long other hosts may take to send what was damaged, ms. */
  timeout: number
  work: Work
}

/**
 * Reads blocks that are here: each must be what the signature of its log says, and every item of it
 * what its id says. What cannot be read is fetched again from whoever has it.
 */
export async function checkBlocks(set: LogSet, options: CheckOptions): Promise<Checked> {
  const { ranges, work, pool } = options
  const checked: Checked = {
    blocks: 0,
    bytes: 0,
    repaired: [],
    lost: [],
    newlyLost: [],
    unproved: []
  }
  const damaged: Block[] = []
  const total = ranges.reduce((sum, { start, end }) => sum + Math.max(end - start, 0), 0)
  const chosen = eachOf(ranges, options.isChosen)
  const one = async (): Promise<void> => {
    for (const block of chosen) {
      work.signal.throwIfAborted()
      const { state, size } = await look(block, pool, set)
      if (state === 'absent') continue
      if (state === 'unproved') checked.unproved.push(block)
      if (state === 'damaged') {
        // Now, and not when all have been read: it may have come again by then.
        await block.log.forget(block.index)
        damaged.push(block)
      }
      checked.bytes += size
      checked.blocks++
      work.report({ step: 'verifying', done: checked.blocks, total, unit: 'blocks' })
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, one))
  for (const log of options.current) if (log.missing(0, log.length, 1).length > 0) set.mend(log)
  const missing = [...damaged, ...earlier(ranges, options.current, damaged)]
  const came = await fetchAgain(missing, options, set)
  const isNew = new Set(damaged)
  for (const block of missing) {
    if (came.has(block)) checked.repaired.push(block)
    else checked.lost.push(block)
    if (!came.has(block) && isNew.has(block)) checked.newlyLost.push(block)
  }
  return checked
}

function* eachOf(ranges: CheckOptions['ranges'], isChosen: () => boolean): Generator<Block> {
  for (const { log, start, end } of ranges) {
    for (let index = start; index < Math.min(end, log.length); index++) {
      if (isChosen()) yield { log, index }
    }
  }
}

/** What was found damaged before and nobody has sent since. */
function earlier(
  ranges: CheckOptions['ranges'],
  current: readonly Log[],
  damaged: readonly Block[]
): Block[] {
  const found: Block[] = []
  for (const { log, start, end } of ranges) {
    const known = new Set(damaged.flatMap((block) => (block.log === log ? [block.index] : [])))
    const gaps = new Set(log.forgotten())
    if (current.includes(log))
      for (const index of log.missing(start, Math.min(end, log.length))) gaps.add(index)
    for (const index of gaps) {
      if (index >= start && index < end && !known.has(index)) found.push({ log, index })
    }
  }
  return found
}

type Look = { state: 'absent' | 'whole' | 'damaged' | 'unproved'; size: number }

async function look({ log, index }: Block, pool: WorkerPool, set: LogSet): Promise<Look> {
  const proved = await log.prove(index)
  if (proved === null) return { state: 'absent', size: 0 }
  if (proved.state === 'damaged') return { state: 'damaged', size: 0 }
  const { block } = proved
  const size = block.byteLength
  const isProved = proved.state === 'proved'
  try {
    const sealing = log.openingKey(index, block)
    // A vault has no key; of others it may come. Its signature is what there is.
    if (sealing === null) return { state: isProved ? 'whole' : 'unproved', size }
    if (log.kind === 'data' && index > 0) {
      const copy = new ArrayBuffer(size)
      new Uint8Array(copy).set(block)
      await pool.check({ block: copy, sealing, core: log.key, index })
    } else {
      await log.read(index)
    }
    return { state: isProved ? 'whole' : 'unproved', size }
  } catch (error) {
    const { code } = ParcelError.from(error)
    if (code === 'NEWER_FORMAT') return { state: isProved ? 'whole' : 'unproved', size }
    if (code !== 'INTEGRITY') throw error
    if (!isProved) return { state: 'damaged', size }
    // It is what its writer has signed: no other host has anything else.
    set.problem(
      set.writerOf(log.key) ?? '',
      `block ${index} of its ${log.kind} log is not well made`
    )
    return { state: 'whole', size }
  }
}

/** Those of some blocks that came again, whole. */
async function fetchAgain(
  missing: readonly Block[],
  { timeout, pool, work }: CheckOptions,
  set: LogSet
): Promise<ReadonlySet<Block>> {
  const came = new Set<Block>()
  const waiting = [...missing]
  for (const began = performance.now(); waiting.length > 0;) {
    const left = timeout - (performance.now() - began)
    if (left <= 0) break
    const turn = waiting.splice(0, WINDOW)
    const [done, total] = [came.size, missing.length]
    work.report({ step: 'fetching again', done, total, unit: 'blocks' })
    await ask(turn, Math.min(left, TURN), work.signal)
    for (const block of turn) {
      const { state } = await look(block, pool, set)
      if (state === 'whole') came.add(block)
      else waiting.push(block)
    }
  }
  return came
}

async function ask(blocks: readonly Block[], limit: number, signal: AbortSignal): Promise<void> {
  const byLog = new Map<Log, number[]>()
  for (const { log, index } of blocks) {
    const indexes = byLog.get(log) ?? []
    byLog.set(log, indexes)
    indexes.push(index)
  }
  const fetches = [...byLog].map(([log, indexes]) => log.fetch(indexes))
  const over = new AbortController()
  const late = setTimeout(limit, undefined, { signal: AbortSignal.any([signal, over.signal]) })
  try {
    const all = Promise.all(fetches.map(({ done }) => done))
    // What could not be asked for, as on a log that is closing, is no reason to ask at once again.
    await Promise.race([all.then((ends) => (ends.includes(false) ? late : null)), late]).catch(
      () => {}
    )
  } finally {
    over.abort()
    for (const { cancel } of fetches) cancel()
  }
  signal.throwIfAborted()
}
