// Two people work on one folder, in turn: each suspends what it changed and resumes what the other did.
import { appendFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Host, PrivateDht } from '../lib/index.js'

const scratch = await mkdtemp(join(tmpdir(), 'hyperparcel-example-'))
const dht = await PrivateDht.start()
const bootstrap = dht.address
const ada = await Host.create({ home: join(scratch, 'home-a'), name: 'ada', bootstrap })
const bob = await Host.create({ home: join(scratch, 'home-b'), name: 'bob', bootstrap })

try {
  const adas = join(scratch, 'ada', 'film')
  const bobs = join(scratch, 'bob', 'film')
  await mkdir(join(adas, 'cuts'), { recursive: true })
  await writeFile(join(adas, 'cuts', 'list.txt'), 'scene 1: ada\n')
  await writeFile(join(adas, 'footage.raw'), Buffer.alloc(20_000_000, 'footage '))

  await ada.add(adas, { name: 'film', vm: 'folder' })
  await ada.suspend('film', { message: 'first cut' })
  await bob.join((await ada.invite('film')).invite)
  await bob.resume('film', { to: bobs })

  // Bob adds a scene; only what changed is stored and sent.
  await appendFile(join(bobs, 'cuts', 'list.txt'), 'scene 2: bob\n')
  const { version } = await bob.suspend('film', { message: 'second scene' })
  console.log(`bob changed 13 of ${version.bytes} bytes: ${version.stored} stored`)

  // Ada resumes into her folder: it continues the version that Bob continued, so nothing is lost.
  await ada.resume('film')
  console.log((await readFile(join(adas, 'cuts', 'list.txt'), 'utf8')).trim())

  for (const { authorName, message, holders } of await ada.log('film')) {
    console.log(`${authorName}: ${message} (on ${holders.toSorted().join(' and ')})`)
  }
} finally {
  await bob.close()
  await ada.close()
  await dht.stop()
  await rm(scratch, { recursive: true, force: true })
}
