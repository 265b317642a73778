// Two parcels with the same system, sent one after the other to one host: second-process.js DIR A B
// Prints a lap for each as JSON.
import { mkdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { lap } from '../across/lap.js'
import { OUR_END } from '../across/our-end.js'
import { End } from '../across/end.js'
import { PrivateDht } from '../../../lib/index.js'

const Suspended = z.object({ id: z.string(), stored: z.number() })

const [dir = '', ...images] = process.argv.slice(2)
const dht = await PrivateDht.start()
const start = (name: string): Promise<End> => End.start(OUR_END, name, join(dir, name), dht.address)
const [here, there] = [await start('here'), await start('there')]
const laps = []
for (const [n, image] of images.entries()) {
  const folder = join(dir, `folder-${n}`)
  const disk = join(folder, 'disk.img')
  await mkdir(folder)
  await rename(image, disk)
  const name = `machine-${n}`
  await here.call('add', name, folder)
  await there.call('join', name, z.string().parse(await here.call('invite', name)))
  await there.call('connected', name)
  const end = lap([here.pid, there.pid])
  const { id } = Suspended.parse(await here.call('suspend', name))
  await there.call('whole', name, id)
  laps.push(end())
  await rename(disk, image)
}
await there.stop()
await here.stop()
await dht.stop()
console.log(JSON.stringify(laps))
