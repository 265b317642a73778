// What is traced: a host makes versions, and says when each is durable.
//   node recorded.js HOME FOLDER
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openHome } from '../../lib/index.js'
import type { Known } from '../../lib/parcel/history.js'
import { Parcel } from '../../lib/parcel/parcel.js'
import { openContext, WORK } from '../parcel/parcels.js'
import { fileOf, STEPS } from './steps.js'

const [home = '', folder = ''] = process.argv.slice(2)
const { identity } = await openHome(home)
const context = await openContext(home, identity, Date.now)
const parcel = await Parcel.create(context, { name: 'p', driver: 'folder', path: folder })
await parcel.settings.setCopies(0)
console.log('created')
const made: Known[] = []
for (let step = 0; step < STEPS; step++) {
  const { name, bytes } = fileOf(step)
  await writeFile(join(folder, name), bytes)
  const what = { path: folder, exclude: () => false, facts: {}, message: '', compress: true }
  const { version } = await parcel.author.commit({ ...what, roles: {} }, WORK)
  console.log(`made ${step} ${version.id.toString('hex')}`)
  made.push(version)
  if (step % 4 === 3) await parcel.author.tag(`tag-${step}`, version.id)
  if (step % 6 === 5) {
    const [, second, ...others] = made
    const going = [second, ...others.slice(1, -2)].filter((known) => known !== undefined)
    for (const { id } of going) console.log(`forgotten ${id.toString('hex')}`)
    await parcel.space.forget(going)
    await parcel.space.prune({ timeout: 0 }, WORK)
  }
  if (step % 5 === 4 && made[0] !== undefined) {
    const how = { served: null, beforeSwap: async (): Promise<void> => {} }
    await parcel.files.checkOut(version, folder, how, WORK)
  }
}
await parcel.close()
await context.index.close()
await context.store.close()
await context.pool.close()
await rm(folder, { recursive: true })
