import { z } from 'zod'

const DAY = 1_440

/** How much may go over the network. null: as much as there is. */
export interface LimitRule {
  /** Minutes of the day by this machine's clock, from the first to before the second; null: at all other times. */
  between: { from: number; to: number } | null
  /** Bytes a second, to all hosts together and from them. */
  up: number | null
  down: number | null
  /** To each one of them, and from it. */
  peerUp: number | null
  peerDown?: number | null | undefined
}

/** Bytes a second; null: no limit. */
export const rate = z.number().int().min(1).nullable()
const minutes = z.number().int().min(0).max(DAY)
export const limitRule = z.strictObject({
  between: z.strictObject({ from: minutes, to: minutes }).nullable(),
  up: rate,
  down: rate,
  peerUp: rate,
  peerDown: rate.optional()
})

/** Whether a rule limits anything. */
export function isLimiting({ up, down, peerUp, peerDown = null }: LimitRule): boolean {
  return [up, down, peerUp, peerDown].some((each) => each !== null)
}

/** The rule of a time; null: there is none. */
export function ruleAt(rules: readonly LimitRule[], now: Date): LimitRule | null {
  const minute = now.getHours() * 60 + now.getMinutes()
  const isNow = ({ from, to }: { from: number; to: number }): boolean =>
    from <= to ? minute >= from && minute < to : minute >= from || minute < to
  return (
    rules.find(({ between }) => between !== null && isNow(between)) ??
    rules.find(({ between }) => between === null) ??
    null
  )
}
