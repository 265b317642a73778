// One run of hyperdrive: hyperdrive-run-process.js DIR BEFORE AFTER [dedup]. Prints laps as JSON.
import { mkdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { PrivateDht } from '../../../lib/index.js'
import { requireSame } from '../same.js'
import { End } from './end.js'
import { lap } from './lap.js'
import { BLOCKS, CHANGED, FILES, FIRST, type Laps } from './tasks.js'

const END = fileURLToPath(new URL('./hyperdrive-end-process.js', import.meta.url))
const Imported = z.object({ version: z.number(), blocks: z.number(), bytes: z.number() })

const [dir = '', before = '', after = '', dedup = ''] = process.argv.slice(2)
const folder = join(dir, 'folder')
const out = join(dir, 'out')
const disk = join(folder, 'disk.img')
await mkdir(folder)
const dht = await PrivateDht.start()
const start = (name: string, ...key: string[]): Promise<End> =>
  End.start(END, join(dir, name), dht.address, ...key)
const here = await start('here')
const key = z.string().parse(await here.call('key'))
const there = await start('there', key)
await here.call('join')
await there.call('join')
await there.call('connected')

const laps: Laps = {}
let imported = { version: 0, blocks: 0, bytes: 0 }
for (const [task, image] of [
  [FIRST, before],
  [CHANGED, after]
] as const) {
  await rename(image, disk)
  const end = lap([here.pid, there.pid])
  imported = Imported.parse(await here.call('import', folder, dedup))
  await there.call('whole', String(imported.version), String(imported.blocks))
  laps[task] = end()
  await there.call('export', out)
  laps[task + FILES] = end()
  requireSame(disk, join(out, 'disk.img'))
  await rename(disk, image)
}
await there.stop()

const third = await start('third', key)
const end = lap([here.pid, third.pid])
await third.call('join')
await third.call('connected')
const blocks = lap([here.pid, third.pid])
await third.call('whole', String(imported.version), String(imported.blocks))
const { cpu, wire, rss } = end()
laps[BLOCKS] = { ...blocks(), cpu, wire, rss, perCpu: imported.bytes / cpu }
await third.stop()
await here.stop()
await dht.stop()
console.log(JSON.stringify(laps))
