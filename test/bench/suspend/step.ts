import { diskUsage, makeReady } from '../machine.js'
import { measure, type Command } from '../measure.js'
import type { Bench } from '../part.js'
import type { Results } from '../report.js'
import { cpuOf, forgetPeak, peakOf } from '../process-cost.js'
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
  /** A process that has a part in it. */
  service: number | null
}

/** Measures one step, all things being ready for it. */
export async function step(
  { keeper, task, command, data, reads, repo, service }: Step,
  { bench, results, run }: { bench: Bench; results: Results; run: number }
): Promise<void> {
  bench.say(`run ${run}, ${keeper.name}: ${task}`)
  const before = repo === null ? 0 : await diskUsage(repo)
  await makeReady(bench.dir, reads)
  const beside = service === null ? null : new Beside(service)
  const cost = await measure(command)
  const { wall, stdout } = cost
  const cpu = cost.cpu + (beside?.cpu() ?? 0)
  const rss = cost.rss + (beside?.rss() ?? 0)
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

/** What a process uses from now on. */
class Beside {
  readonly #pid: number
  readonly #before: number

  constructor(pid: number) {
    this.#pid = pid
    this.#before = cpuOf(pid)
    forgetPeak(pid)
  }

  cpu(): number {
    return cpuOf(this.#pid) - this.#before
  }

  rss(): number {
    return peakOf(this.#pid)
  }
}
