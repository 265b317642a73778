import { setTimeout } from 'node:timers/promises'
import { ParcelError } from '../errors.js'
import type { WorkerPool } from '../chunk/worker-pool.js'
import type { Log } from '../log/log.js'
import type { Work } from '../progress.js'
import type { LogSet } from './log-set.js'

/** Blocks that are read side by side. */
const AT_ONCE = 8
/** Blocks that are fetched again side by side. */
const FETCHED_AT_ONCE = 64

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
  /** Those that were damaged, and that no host has sent. They are not here any more. */
  lost: Block[]
}

export interface CheckOptions {
  pool: WorkerPool
  /** Whether a block is looked at. */
  isChosen: (log: Log, index: number) => boolean
  /** How long other hosts may take to send what was damaged, ms. */
  timeout: number
  work: Work
}

/**
 * Reads blocks that are here: each must be what the signature of its log says, and every item of it
 * what its id says. What is damaged is fetched again from whoever has it.
 */
export async function checkBlocks(set: LogSet, options: CheckOptions): Promise<Checked> {
  const { isChosen, work, timeout } = options
  const checked: Checked = { blocks: 0, bytes: 0, repaired: [], lost: [] }
  const damaged: Block[] = []
  const logs = set.logs()
  const total = logs.reduce((sum, log) => sum + log.count(log.length), 0)
  const chosen = eachOf(logs, isChosen)
  const one = async (): Promise<void> => {
    for (const block of chosen) {
      work.signal.throwIfAborted()
      const size = await sizeIfWhole(block, options.pool)
      if (size === 'damaged') damaged.push(block)
      else if (size === null) continue
      else checked.bytes += size
      checked.blocks++
      work.report({ step: 'verifying', done: checked.blocks, total, unit: 'blocks' })
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, one))
  for (const { log, index } of damaged) await log.forget(index)
  // What was found the last time and nobody has sent since.
  for (const log of logs) {
    if (!log.isOwn) continue
    const gaps = log.missing(0, log.length).filter((index) => isChosen(log, index))
    for (const index of gaps) {
      if (!damaged.some((block) => block.log === log && block.index === index)) {
        damaged.push({ log, index })
      }
    }
    if (gaps.length > 0) set.mend(log)
  }
  let rest = damaged
  for (const began = performance.now(); rest.length > 0;) {
    const left = timeout - (performance.now() - began)
    work.report({
      step: 'fetching again',
      done: damaged.length - rest.length,
      total: damaged.length,
      unit: 'blocks'
    })
    await fetchAgain(rest.slice(0, FETCHED_AT_ONCE), Math.max(left, 0), work.signal)
    const still: Block[] = []
    for (const block of rest) {
      const size = await sizeIfWhole(block, options.pool)
      if (size === null || size === 'damaged') still.push(block)
      else checked.repaired.push(block)
    }
    rest = still
    if (left <= 0) break
  }
  checked.lost.push(...rest)
  return checked
}

function* eachOf(
  logs: readonly Log[],
  isChosen: (log: Log, index: number) => boolean
): Generator<Block> {
  for (const log of logs) {
    for (let index = 0; index < log.length; index++) if (isChosen(log, index)) yield { log, index }
  }
}

/** Bytes of a block; null when it is not here. */
async function sizeIfWhole(
  { log, index }: Block,
  pool: WorkerPool
): Promise<number | 'damaged' | null> {
  try {
    const block = await log.prove(index)
    if (block === null) return null
    const size = block.byteLength
    const sealing = log.openingKey(index, block)
    if (sealing === null) return size
    if (log.kind === 'data' && index > 0) {
      const copy = new ArrayBuffer(size)
      new Uint8Array(copy).set(block)
      await pool.check({ block: copy, sealing, core: log.key, index })
    } else {
      await log.read(index)
    }
    return size
  } catch (error) {
    if (error instanceof ParcelError && error.code === 'INTEGRITY') return 'damaged'
    throw error
  }
}

async function fetchAgain(
  blocks: readonly Block[],
  timeout: number,
  signal: AbortSignal
): Promise<void> {
  const byLog = new Map<Log, number[]>()
  for (const { log, index } of blocks) byLog.set(log, [...(byLog.get(log) ?? []), index])
  const fetches = [...byLog].map(([log, indexes]) => log.fetch(indexes))
  const limit = new AbortController()
  const isLate = setTimeout(timeout, undefined, { signal: AbortSignal.any([signal, limit.signal]) })
  try {
    await Promise.race([Promise.all(fetches.map(({ done }) => done)), isLate.catch(() => {})])
  } finally {
    limit.abort()
    for (const { cancel } of fetches) cancel()
  }
  signal.throwIfAborted()
}
