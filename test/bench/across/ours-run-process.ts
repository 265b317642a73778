// One run of ours: ours-run-process.js DIR BEFORE AFTER. Prints laps as JSON.
import { mkdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { PrivateDht } from '../../../lib/index.js'
import { requireSame } from '../same.js'
import { End } from './end.js'
import { lap } from './lap.js'
import { OUR_END } from './our-end.js'
import { BLOCKS, CHANGED, FILES, FIRST, type Laps } from './tasks.js'

const Suspended = z.object({ id: z.string(), stored: z.number() })

const [dir = '', before = '', after = ''] = process.argv.slice(2)
const folder = join(dir, 'folder')
const disk = join(folder, 'disk.img')
await mkdir(folder)
const dht = await PrivateDht.start()
const start = (name: string): Promise<End> => End.start(OUR_END, name, join(dir, name), dht.address)
const [here, there] = [await start('here'), await start('there')]
await here.call('add', 'image', folder)
await there.call('join', 'image', z.string().parse(await here.call('invite', 'image')))
await there.call('connected', 'image')

const laps: Laps = {}
let stored = 0
for (const [task, image] of [
  [FIRST, before],
  [CHANGED, after]
] as const) {
  await rename(image, disk)
  const end = lap([here.pid, there.pid])
  const suspended = Suspended.parse(await here.call('suspend', 'image'))
  await there.call('whole', 'image', suspended.id)
  laps[task] = end()
  // The second goes where the first is, as it would.
  await there.call('resume', 'image', join(dir, 'out'))
  laps[task + FILES] = end()
  requireSame(disk, join(dir, 'out', 'disk.img'))
  await rename(disk, image)
  stored += suspended.stored
}
await there.stop()

const third = await start('third')
const end = lap([here.pid, third.pid])
await third.call('join', 'image', z.string().parse(await here.call('invite', 'image')))
// Meeting takes seconds of waiting; what counts begins when they have met.
const blocks = lap([here.pid, third.pid])
await third.call('newest', 'image')
const { cpu, wire, rss } = end()
laps[BLOCKS] = { ...blocks(), cpu, wire, rss, perCpu: stored / cpu }
await third.stop()
await here.stop()
await dht.stop()
console.log(JSON.stringify(laps))
