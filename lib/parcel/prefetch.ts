import type { Trace } from '../format/meta-record.js'
import type { LogSet } from './log-set.js'

/** Blocks asked for side by side: as many as the link takes in about this time, ms. */
const AHEAD = 250
const [FEWEST, MOST] = [3, 64]

/**
 * Fetches the blocks of a trace in their order, pipelined, so that what is wanted first comes first
 * and the link is never idle. Settles when all are here, or `signal` aborts.
 */
export async function prefetch(
  { blocks }: Pick<Trace, 'blocks'>,
  cores: readonly Buffer[],
  set: LogSet,
  signal: AbortSignal
): Promise<void> {
  const waiting = new Set<Promise<void>>()
  const cancels = new Set<() => void>()
  const cancelAll = (): void => {
    for (const cancel of cancels) cancel()
  }
  signal.addEventListener('abort', cancelAll, { once: true })
  const started = performance.now()
  let came = 0
  let window = 8
  for (const { core, block } of blocks) {
    if (signal.aborted) break
    const key = cores[core]
    const log = key === undefined ? null : set.get(key)
    if (log === null || block >= log.length || log.has(block) || log.isDropped(block)) continue
    const { done, cancel } = log.fetch([block])
    cancels.add(cancel)
    const one = done.then(() => {
      came++
      const pace = (performance.now() - started) / came
      window = Math.min(MOST, Math.max(FEWEST, Math.ceil(AHEAD / pace)))
      cancels.delete(cancel)
      waiting.delete(one)
    })
    waiting.add(one)
    while (waiting.size >= window) await Promise.race(waiting)
  }
  await Promise.all(waiting)
  signal.removeEventListener('abort', cancelAll)
}
