import type { History, Known } from './history.js'

/** A host that a parcel went on at after another one. */
interface HandOff {
  /** In hex. */
  from: string
  to: string
  /** Of the version that it went on from, by the clock of who made it and the time zone of this machine. */
  day: number
  hour: number
}

/** Where a parcel will be wanted next, and how likely that is, from 0 to 1. */
export interface Guess {
  /** In hex. */
  host: string
  chance: number
}

export interface Prediction {
  /** The likeliest first. */
  next: Guess[]
  /** Hand-offs that are known. */
  known: number
  /** Of so many that could have been foretold from those before them, so many were. */
  tried: number
  right: number
}

/** Only the last ones count: habits change. */
const MOST = 500
/** A hand-off on the same day of the week, or at nearly the same hour, says so much more than another one. */
const [SAME_DAY, SAME_HOUR, NEAR_HOUR] = [10, 6, 3]
/** Added to what is counted for each host that was ever gone to: none is ruled out. */
const SMOOTHING = 0.5
/** Before 1980 and after 2200 no clock is believed. */
const [FIRST, LAST] = [315_532_800_000, 7_258_118_400_000]

/**
 * Foretells where a parcel is resumed next when it was suspended at `from`, in hex, at a time, from what
 * hosts did before: counts of hand-offs, of which those weigh more that were on such a day of the week and
 * at such an hour, by the clock of this machine. Guessed are only hosts that are possible.
 */
export function predict(
  history: History,
  from: string,
  at: number,
  isPossible: (host: string) => boolean
): Prediction {
  const all = handOffs(history)
  let [tried, right] = [0, 0]
  for (const [n, handOff] of all.entries()) {
    const [guess] = guesses(all.slice(0, n), handOff, () => true)
    if (guess === undefined) continue
    tried++
    if (guess.host === handOff.to) right++
  }
  const now = { from, ...timeOf(at) }
  return { next: guesses(all, now, isPossible), known: all.length, tried, right }
}

function guesses(
  before: readonly HandOff[],
  now: Omit<HandOff, 'to'>,
  isPossible: (host: string) => boolean
): Guess[] {
  const weights = new Map<string, number>()
  for (const then of before) {
    const { from, to } = then
    if (to === now.from || !isPossible(to)) continue
    const more = from === now.from ? weight(now, then) : 0
    weights.set(to, (weights.get(to) ?? SMOOTHING) + more)
  }
  const sum = [...weights.values()].reduce((all, each) => all + each, 0)
  return [...weights]
    .map(([host, each]) => ({ host, chance: each / sum }))
    .toSorted((a, b) => b.chance - a.chance || (a.host < b.host ? -1 : 1))
}

function weight(a: Pick<HandOff, 'day' | 'hour'>, b: Pick<HandOff, 'day' | 'hour'>): number {
  const hours = Math.abs(a.hour - b.hour)
  const apart = Math.min(hours, 24 - hours)
  const hour = apart === 0 ? SAME_HOUR : apart === 1 ? NEAR_HOUR : 1
  return hour * (a.day === b.day ? SAME_DAY : 1)
}

function timeOf(ms: number): { day: number; hour: number } {
  const date = new Date(ms)
  return { day: date.getDay(), hour: date.getHours() }
}

/** The oldest first, as versions follow each other. */
function handOffs(history: History): HandOff[] {
  const found: HandOff[] = []
  for (const known of history.list().toReversed()) {
    const [parent] = known.version.parents
    const before = parent === undefined ? null : history.get(parent)
    const one = before === null ? null : handOff(before, known)
    if (one !== null) found.push(one)
  }
  return found.slice(-MOST)
}

function handOff({ version: before }: Known, { version }: Known): HandOff | null {
  const at = before.created
  if (before.author.equals(version.author) || at < FIRST || at > LAST) return null
  const [from, to] = [before.author.toString('hex'), version.author.toString('hex')]
  return { from, to, ...timeOf(at) }
}
