import type { TestContext } from 'node:test'
import { scratch } from '../support/scratch.js'
import { speedUp } from './fast-clock.js'
import { World } from './world.js'

/** So many times as fast goes the time in a simulation. */
const SPEED = 40

/** Runs the worlds of seeds, one after the other. */
export async function runSeeds(
  t: TestContext,
  { first, count, steps }: { first: number; count: number; steps: number }
): Promise<void> {
  const dir = await scratch(t)
  const totals = new Map<string, number>()
  const stop = speedUp(SPEED)
  try {
    for (let seed = first; seed < first + count; seed++) {
      for (const [name, times] of await World.run(seed, steps, dir)) {
        totals.set(name, (totals.get(name) ?? 0) + times)
      }
    }
  } finally {
    stop()
  }
  t.diagnostic([...totals].map(([name, times]) => `${name} ${times}`).join(', '))
}
