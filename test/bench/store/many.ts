import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { DaemonClient } from '../../../lib/index.js'
import { cpuOf, peakOf } from '../process-cost.js'
import { measure } from '../measure.js'
import { ourProgram } from '../ours.js'
import type { Bench } from '../part.js'
import { OURS, type Results } from '../report.js'
import { sync } from '../sync.js'

const HOSTS = 8
/** By then it has announced its topics and looked for the others, who are not there. */
const SETTLED = 10_000

/** A daemon that knows 100 parcels of 8 hosts: until it answers, and ten seconds later. */
export async function many(bench: Bench, results: Results): Promise<void> {
  const parcels = Math.max(3, Math.round(100 * Math.min(1, bench.data / 1_100)))
  const dir = join(bench.dir, 'many')
  await mkdir(dir)
  bench.say(`making ${parcels} parcels of ${HOSTS} hosts`)
  const made = [dir, String(parcels), String(HOSTS)]
  await measure({ argv: ourProgram('./many-process.js', import.meta.url, ...made) })
  const home = join(dir, 'host-0')
  for (let run = 1; run <= bench.runs; run++) {
    bench.say(`run ${run}, starting a daemon`)
    sync()
    const client = new DaemonClient({ home, bootstrap: bench.dht })
    try {
      const began = performance.now()
      await client.call('id', {})
      const wall = (performance.now() - began) / 1e3
      const pid = (await client.status())?.pid
      if (pid === undefined) throw new Error('the daemon is not there')
      const task = `a daemon with ${parcels} parcels of ${HOSTS} hosts: until it answers`
      results.add(task, OURS, { wall, cpu: cpuOf(pid), rss: peakOf(pid) })
      await setTimeout(SETTLED)
      const settled = `the same daemon, ${SETTLED / 1e3} s later`
      results.add(settled, OURS, { cpu: cpuOf(pid), rss: peakOf(pid) })
      const { parcels: known } = await client.call('ls', {})
      if (known.length !== parcels)
        throw new Error(`it has ${known.length} parcels, not ${parcels}`)
    } finally {
      await client.stop()
    }
  }
  await rm(dir, { recursive: true })
}
