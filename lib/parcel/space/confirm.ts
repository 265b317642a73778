import { setTimeout } from 'node:timers/promises'
import type { Answerer } from '../../answerer.js'
import { MAX_ASKED } from '../../format/recipe.js'
import type { Work } from '../../progress.js'
import type { Availability } from '../availability.js'
import type { Known } from '../history.js'

const [POLL, ASK_AGAIN] = [250, 1_000]

export interface ConfirmOptions {
  availability: Availability
  answerers: () => readonly Answerer[]
  /** In hex. */
  self: string
  /** How many other hosts are to hold each. */
  copies: number
  /** How long they may take, ms. */
  timeout: number
  work: Work
}

export interface Confirmed {
  /** Versions that enough other hosts hold, or of which nothing is here. */
  gone: Known[]
  kept: Known[]
  /** Hosts, in hex, that have signed for one of the kept and did not answer. */
  silent: string[]
}

/**
 * Asks other hosts which of some versions they hold. One counts that has signed for a version and says
 * now that it holds it, and will not be without before it has asked itself.
 */
export async function confirm(
  versions: readonly Known[],
  { availability, answerers, self, copies, timeout, work }: ConfirmOptions
): Promise<Confirmed> {
  const deadline = performance.now() + timeout
  const late = setTimeout(timeout, null, { ref: false })
  const confirmed = new Map(versions.map((known) => [known, new Set<string>()]))
  const asked = new Map<Answerer, number>()
  const isEnough = (known: Known): boolean =>
    availability.blocksOf(known).here === 0 || (confirmed.get(known)?.size ?? 0) >= copies
  for (;;) {
    work.signal.throwIfAborted()
    const now = performance.now()
    // What a host does not vouch for now, as it may go itself, it may a moment later.
    const due = answerers().filter((each) => now - (asked.get(each) ?? -ASK_AGAIN) >= ASK_AGAIN)
    const open = versions.filter((known) => !isEnough(known))
    await Promise.all(
      due.map(async (answerer) => {
        asked.set(answerer, now)
        const signed = open.filter((known) => availability.holders(known).has(answerer.host))
        for (const known of await ask(answerer, signed, { late, signal: work.signal })) {
          confirmed.get(known)?.add(answerer.host)
        }
      })
    )
    const kept = versions.filter((known) => !isEnough(known))
    work.signal.throwIfAborted()
    if (kept.length === 0 || performance.now() >= deadline) {
      const heard = new Set([...asked.keys()].map(({ host }) => host))
      const holders = new Set(kept.flatMap((known) => [...availability.holders(known)]))
      const silent = [...holders].filter((host) => host !== self && !heard.has(host))
      return { gone: versions.filter(isEnough), kept, silent }
    }
    const [done, total] = [versions.length - kept.length, versions.length]
    work.report({ step: 'asking other hosts', done, total, unit: 'blocks' })
    const left = Math.max(deadline - performance.now(), 1)
    await setTimeout(Math.min(POLL, left), undefined, { signal: work.signal }).catch(() => {})
  }
}

/** Those of some versions that a host says it holds, before it is `late`. */
async function ask(
  answerer: Answerer,
  versions: readonly Known[],
  { late, signal }: { late: Promise<null>; signal: AbortSignal }
): Promise<Known[]> {
  const held: Known[] = []
  for (let from = 0; from < versions.length && !signal.aborted; from += MAX_ASKED) {
    const part = versions.slice(from, from + MAX_ASKED)
    const question = { kind: 'held', ids: part.map(({ id }) => id) } as const
    const answer = await Promise.race([answerer.held(question).catch(() => null), late])
    if (answer === null) break
    held.push(...part.filter((_, i) => answer[i] === true))
  }
  return held
}
