import { spawnSync } from 'node:child_process'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { describeImages, makeImages, sizesFor, type Images } from '../image.js'
import { diskUsage, makeReady } from '../machine.js'
import { measure } from '../measure.js'
import { OUR_VERSION, ourProgram } from '../ours.js'
import type { Bench, Part } from '../part.js'
import { OURS, Results, type PartReport } from '../report.js'
import { appendHugeFile } from '../store/huge-file.js'
import { oursAt } from '../suspend/ours.js'
import { sync } from '../sync.js'
import { differingRanges, writeRanges, type Ranges } from './dirty-ranges.js'
import { takesDirtyMaps } from './dirty-suspend.js'

const Call = z.object({ wall: z.number(), cpu: z.number() })

export const trackedPart: Part = {
  name: 'tracked',
  about: 'a suspend that is told what was written, in a small and in a large image',
  run
}

async function run(bench: Bench): Promise<PartReport> {
  bench.saw(OURS, OUR_VERSION, 'encrypted, zstd, synced')
  bench.say('making the image')
  const images = await makeImages(bench.dir, sizesFor(bench.data))
  const ranges = await differingRanges(images.before, images.after)
  const isTracked = await takesDirtyMaps(join(bench.dir, 'probe'), bench.dht)
  const results = new Results()
  for (const times of [1, 10]) {
    await suspendDirty(bench, { images, ranges, times, isTracked, results })
  }
  return results.report('tracked', describeImages(images), [
    'The larger image has ten times the size: the smaller one, then pages that differ and compress well, then holes.',
    'The same ranges are written into both, each time with other bytes.',
    ...(isTracked ? [] : ['Suspends take no dirty map yet: scanning alone was measured.'])
  ])
}

async function suspendDirty(
  bench: Bench,
  what: { images: Images; ranges: Ranges; times: number; isTracked: boolean; results: Results }
): Promise<void> {
  const { images, ranges, times, isTracked, results } = what
  const dir = join(bench.dir, `times-${times}`)
  const [repo, folder] = [join(dir, 'repo'), join(dir, 'folder')]
  const disk = join(folder, 'disk.img')
  await mkdir(repo, { recursive: true })
  await mkdir(folder)
  spawnSync('cp', ['--sparse=always', images.before, disk])
  const size = images.sizes.image * times
  await appendHugeFile(disk, size)
  const map = join(dir, 'ranges.json')
  await writeFile(map, JSON.stringify(ranges))
  const keeper = oursAt(bench.dht)
  const place = { repo, folder, version: 1 }
  for (const command of [...keeper.init(place), keeper.store(place)]) await measure(command)

  const dirty = ranges.reduce((sum, [, length]) => sum + length, 0)
  const task = `${(dirty / 1e6).toFixed(0)} MB dirty in ${(size / 2 ** 30).toFixed(1)} GiB`
  const ways = isTracked ? [OURS, `${OURS}, scanning`] : [`${OURS}, scanning`]
  let mark = 1
  for (let run = 1; run <= bench.runs; run++) {
    for (const tool of ways) {
      bench.say(`run ${run}, ${task}: ${tool}`)
      await writeRanges(images.after, disk, ranges, mark++)
      await makeReady(dir, [disk])
      const before = await diskUsage(repo)
      const args = tool === OURS ? [bench.dht, repo, map] : [bench.dht, repo]
      const argv = ourProgram('./tracked-process.js', import.meta.url, ...args)
      const { wall, cpu, rss, stdout } = await measure({ argv })
      sync()
      results.add(task, tool, { wall, cpu, rss, stored: (await diskUsage(repo)) - before })
      results.add(task, `${tool}, the call alone`, Call.parse(JSON.parse(stdout)))
    }
  }
  await rm(dir, { recursive: true })
}
