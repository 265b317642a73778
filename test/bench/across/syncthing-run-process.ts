// One run of Syncthing: syncthing-run-process.js DIR BEFORE AFTER. Prints laps as JSON.
import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { lap } from './lap.js'
import { requireSame } from '../same.js'
import { Syncthing } from './syncthing.js'
import { CHANGED, FILES, FIRST, type Laps } from './tasks.js'

const [dir = '', before = '', after = ''] = process.argv.slice(2)
const [from, to] = [join(dir, 'from'), join(dir, 'to')]
const here = await Syncthing.create({
  home: join(dir, 'here'),
  folder: from,
  listen: 22_101,
  api: 22_102,
  type: 'sendonly'
})
const there = await Syncthing.create({
  home: join(dir, 'there'),
  folder: to,
  listen: 22_103,
  api: 22_104,
  type: 'receiveonly'
})
await here.start(there)
await there.start(here)
await here.connected(there)
await there.connected(here)

const laps: Laps = {}
const disk = join(from, 'disk.img')
for (const [task, image] of [
  [FIRST, before],
  [CHANGED, after]
] as const) {
  await rename(image, disk)
  const known = (await there.status()).sequence
  const end = lap([here.pid, there.pid])
  await here.scan()
  for (;;) {
    const { state, globalBytes, needBytes, sequence } = await there.status()
    if (state === 'idle' && globalBytes > 0 && needBytes === 0 && sequence > known) break
    await setTimeout(50)
  }
  // Syncthing knows no other form than the file.
  const taken = end()
  laps[task] = taken
  laps[task + FILES] = taken
  requireSame(disk, join(to, 'disk.img'))
  await rename(disk, image)
}
await there.stop()
await here.stop()
console.log(JSON.stringify(laps))
