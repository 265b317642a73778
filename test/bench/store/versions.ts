import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { diskUsage } from '../machine.js'
import { measure } from '../measure.js'
import { ourProgram } from '../ours.js'
import type { Bench } from '../part.js'
import { OURS, type Results } from '../report.js'
import { sync } from '../sync.js'

const Call = z.object({ wall: z.number(), cpu: z.number() })

/** 4 MiB of which one page changes, stored a thousand times. Made once, opened in each run. */
export async function versions(bench: Bench, results: Results): Promise<void> {
  const count = Math.max(20, Math.round(1_000 * Math.min(1, bench.data / 1_100)))
  const dir = join(bench.dir, 'versions')
  const home = join(dir, 'home')
  const folder = join(dir, 'folder')
  await mkdir(folder, { recursive: true })
  const program = (step: string, ...args: string[]): [string, ...string[]] =>
    ourProgram('./versions-process.js', import.meta.url, step, home, bench.dht, ...args)

  bench.say(`making ${count} versions`)
  const { wall, cpu, rss } = await measure({ argv: program('make', folder, String(count)) })
  const stored = await diskUsage(home)
  results.add(`make ${count} versions, a page changed in each`, OURS, { wall, cpu, rss, stored })
  for (let run = 1; run <= bench.runs; run++) {
    bench.say(`run ${run}, opening them`)
    for (const step of ['open', 'log']) {
      sync()
      const whole = await measure({ argv: program(step) })
      const call = Call.parse(JSON.parse(whole.stdout))
      const task = `${step === 'open' ? 'open a home with' : 'list'} ${count} versions`
      results.add(task, `${OURS}, the call alone`, { ...call, rss: whole.rss })
    }
  }
  await rm(dir, { recursive: true })
}
