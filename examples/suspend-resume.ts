// A running machine is suspended, its folder deleted, and brought back elsewhere: it goes on counting.
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Host, PrivateDht } from '../lib/index.js'

const scratch = await mkdtemp(join(tmpdir(), 'hyperparcel-example-'))
const dht = await PrivateDht.start()
const host = await Host.create({
  home: join(scratch, 'home'),
  name: 'here',
  bootstrap: dht.address
})

try {
  // `add` writes a machine file for an empty folder: a small v86 machine that counts on its console.
  const folder = join(scratch, 'machine')
  await mkdir(folder)
  await host.add(folder, { name: 'counter', vm: 'v86' })
  await host.run('counter')
  console.log(`running: ${(await counts(3)).join(' ')}`)

  // A checkpoint makes a version and lets the machine go on; suspend stops it.
  await host.checkpoint('counter', { message: 'on the way' })
  console.log(`after a checkpoint: ${(await counts(3)).join(' ')}`)
  const { version } = await host.suspend('counter')
  console.log(`suspended: ${version.bytes} bytes, ${version.stored} of them new`)
  await rm(folder, { recursive: true })

  const { path } = await host.resume('counter', { to: join(scratch, 'elsewhere') })
  console.log(`resumed in ${path.slice(scratch.length)}: ${(await counts(3)).join(' ')}`)

  for (const { id, message, created } of await host.log('counter')) {
    console.log(`${id.slice(0, 12)} ${new Date(created).toISOString()} ${message}`)
  }
  await host.stop('counter')
} finally {
  await host.close()
  await dht.stop()
  await rm(scratch, { recursive: true, force: true })
}

/** The next numbers that the machine prints. */
async function counts(wanted: number): Promise<string[]> {
  let text = ''
  for await (const bytes of await host.attach('counter')) {
    text += Buffer.from(bytes).toString('latin1')
    const found = [...text.matchAll(/count (\d+)\r\n/g)].map(([, count]) => count ?? '')
    if (found.length >= wanted) return found.slice(-wanted)
  }
  throw new Error('the machine ended')
}
