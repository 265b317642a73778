import { mkdir, rm, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { diskUsage } from '../machine.js'
import { measure } from '../measure.js'
import type { Bench } from '../part.js'
import { OURS, type Results } from '../report.js'
import { oursAt } from '../suspend/ours.js'
import { sync } from '../sync.js'
import { appendHugeFile } from './huge-file.js'

const SIZE = 100 * 2 ** 30
/** The file takes 0.4 of its size, and its store and everybody else need some, too. */
const ROOM = 0.5

/** A sparse parcel of 100 GiB, stored once and again unchanged. One run: it takes long enough. */
export async function huge(bench: Bench, results: Results): Promise<void> {
  const wanted = SIZE * Math.min(1, bench.data / 1_100)
  const { bavail, bsize } = await statfs(bench.dir)
  if (bavail * bsize < wanted * ROOM) {
    throw new Error(`--huge needs ${((wanted * ROOM) / 1e9).toFixed(0)} GB of room on the disk`)
  }
  const dir = join(bench.dir, 'huge')
  const [repo, folder] = [join(dir, 'repo'), join(dir, 'folder')]
  await mkdir(repo, { recursive: true })
  await mkdir(folder)
  bench.say('writing the huge file')
  const { size, pages } = await appendHugeFile(join(folder, 'disk.img'), wanted)
  const keeper = oursAt(bench.dht)
  const place = { repo, folder, version: 1 }
  for (const command of keeper.init(place)) await measure(command)
  const what = `${(size / 2 ** 30).toFixed(0)} GiB, sparse, ${(pages / 1e6).toFixed(1)} million distinct pages`
  for (const task of [`suspend ${what}`, 'the same again, unchanged']) {
    bench.say(task)
    sync()
    const before = await diskUsage(repo)
    const { wall, cpu, rss } = await measure(keeper.store(place))
    sync()
    results.add(task, OURS, { wall, cpu, rss, stored: (await diskUsage(repo)) - before })
  }
  await rm(dir, { recursive: true })
}
