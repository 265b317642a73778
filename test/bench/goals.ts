import type { MetricName } from './metrics.js'

/**
 * What a figure of ours, divided by the best peer's, should at most be (for speeds: at least).
 * Memory is shown without a goal: peers differ too much in what they keep there.
 */
const GOALS: Partial<Record<MetricName, number>> = {
  wall: 1,
  cpu: 1,
  stored: 1,
  wire: 1,
  perCpu: 1
}

export function goalOf(metric: MetricName): number | null {
  return GOALS[metric] ?? null
}
