import { loopbackBytes } from './namespace.js'
import { cpuOf, peakOf } from '../process-cost.js'

/** What a stretch of work of two processes together took. */
export interface Lap {
  wall: number
  cpu: number
  wire: number
  rss: number
}

/** Starts counting; call what it returns at the end. Memory is that of the larger process. */
export function lap(pids: readonly number[]): () => Lap {
  const cpu = (): number => pids.reduce((sum, pid) => sum + cpuOf(pid), 0)
  const [began, used, sent] = [performance.now(), cpu(), loopbackBytes()]
  return () => ({
    wall: (performance.now() - began) / 1e3,
    cpu: cpu() - used,
    wire: loopbackBytes() - sent,
    rss: Math.max(...pids.map(peakOf))
  })
}
