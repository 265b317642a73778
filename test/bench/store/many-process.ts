// A home that knows many parcels of many hosts: many-process.js DIR PARCELS HOSTS
// The first host's home, DIR/host-0, then has the logs of all; each host has stored something in each.
import { join } from 'node:path'
import { bring, Member } from './members.js'

const [dir = '', parcels = '0', hosts = '0'] = process.argv.slice(2)
const folders = join(dir, 'folders')
const members: Member[] = []
for (let n = 0; n < Number(hosts); n++) members.push(await Member.create(dir, `host-${n}`))
const [first, ...others] = members
if (first === undefined) throw new Error('no hosts')
for (let n = 0; n < Number(parcels); n++) {
  const founded = await first.found(`parcel-${n}`, folders, others)
  await first.commit(founded, folders)
  for (const other of others) {
    const joined = await other.join(founded)
    await other.commit(joined, folders)
    await bring(joined, founded)
    await joined.close()
  }
}
for (const member of members) await member.close()
