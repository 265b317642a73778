// Two hosts on a DHT of their own: one suspends a folder, the other resumes it elsewhere.
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Host, PrivateDht } from '../lib/index.js'

const scratch = await mkdtemp(join(tmpdir(), 'hyperparcel-example-'))
const dht = await PrivateDht.start()
const bootstrap = dht.address

const laptop = await Host.create({ home: join(scratch, 'laptop'), name: 'laptop', bootstrap })
const desk = await Host.create({ home: join(scratch, 'desk'), name: 'desk', bootstrap })

try {
  // Something to carry.
  const notes = join(scratch, 'notes')
  await mkdir(notes)
  await writeFile(join(notes, 'today.txt'), 'close the lid here\n')

  // The laptop makes a parcel of it and its first version, durable when the call returns.
  await laptop.add(notes, { name: 'notes', vm: 'folder' })
  const { version } = await laptop.suspend('notes')
  console.log(`laptop: version ${version.id.slice(0, 12)}, ${version.stored} bytes stored`)

  // An invite is for one host; it can be used for ten minutes.
  const { invite } = await laptop.invite('notes')
  const joined = await desk.join(invite)
  console.log(`desk: joined "${joined.name}"`)

  // The desk fetches what it does not have, verifies it and writes it where it likes.
  const task = desk.resume('notes', { to: join(scratch, 'on-desk') })
  for await (const event of task) {
    if (event.type === 'progress') console.log(`desk: ${event.step} ${event.done}/${event.total}`)
  }
  const { path, heard } = await task
  console.log(`desk: heard ${heard.join(', ')}`)
  console.log(`desk: ${(await readFile(join(path, 'today.txt'), 'utf8')).trim()}, open it there`)
} finally {
  await desk.close()
  await laptop.close()
  await dht.stop()
  await rm(scratch, { recursive: true, force: true })
}
