import { diskUsage, makeReady } from '../machine.js'
import { measure, type Command } from '../measure.js'
import type { Bench } from '../part.js'
import type { Results } from '../report.js'
import { sync } from '../sync.js'
import type { Keeper } from './keeper.js'

/** What is done with a keeper in one run. */
export interface Step {
  keeper: Keeper
  task: string
  command: Command
  /** Bytes of data, for a step that handles all of them; 0: no speed is worth showing. */
  data: number
  /** Files that it reads. */
  reads: readonly string[]
  /** The keeper's folder; null: nothing is stored. */
  repo: string | null
}

/** Measures one step, all things being ready for it. */
export async function step(
  { keeper, task, command, data, reads, repo }: Step,
  { bench, results, run }: { bench: Bench; results: Results; run: number }
): Promise<void> {
  bench.say(`run ${run}, ${keeper.name}: ${task}`)
  const before = repo === null ? 0 : await diskUsage(repo)
  await makeReady(bench.dir, reads)
  const { wall, cpu, rss, stdout } = await measure(command)
  sync()
  const stored = repo === null ? null : (await diskUsage(repo)) - before
  results.add(task, keeper.name, {
    wall,
    cpu,
    rss,
    ...(stored === null ? {} : { stored }),
    ...(data === 0 ? {} : { speed: data / wall })
  })
  if (keeper.call !== undefined) {
    results.add(task, `${keeper.name}, the call alone`, keeper.call(stdout))
  }
}
