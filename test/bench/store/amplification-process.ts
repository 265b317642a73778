// Stores an image twice: amplification-process.js DIR DHT BEFORE AFTER. Prints what was written as JSON.
import { readFileSync } from 'node:fs'
import { mkdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { Host } from '../../../lib/index.js'
import { diskUsage } from '../machine.js'
import type { Values } from '../metrics.js'

const [dir = '', bootstrap = '', before = '', after = ''] = process.argv.slice(2)
const folder = join(dir, 'folder')
const home = join(dir, 'home')
await mkdir(folder)
const values: Values[] = []
for (const image of [before, after]) {
  await rename(image, join(folder, 'disk.img'))
  const isFirst = values.length === 0
  const options = { home, bootstrap }
  const host = isFirst ? await Host.create({ ...options, name: 'bench' }) : await Host.open(options)
  const began = writtenBytes()
  if (isFirst) await host.add(folder, { name: 'image', vm: 'folder' })
  const { version } = await host.suspend('image')
  // Closing writes out what is in memory, and belongs to it.
  await host.close()
  const written = writtenBytes() - began
  const { stored } = version
  values.push({ stored, written, times: written / stored })
  await rename(join(folder, 'disk.img'), image)
}
const index = await diskUsage(join(home, 'index'))
console.log(JSON.stringify({ values, index }))

/** Bytes that this process has sent towards a disk. */
function writtenBytes(): number {
  return Number(/^write_bytes: (\d+)/m.exec(readFileSync('/proc/self/io', 'utf8'))?.[1] ?? NaN)
}
