import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { eventually } from '../support/hosts.js'
import { randomFile } from './blob.js'
import { objects, Place, type User } from './place.js'

async function names(user: User): Promise<unknown[]> {
  const all = objects(await user.ok('ls', '--json'))
  return all.flatMap(({ type, name }) => (type === 'parcel' ? [name] : []))
}

test('remove takes a parcel off a host, but not what no other host has; it can come back', async (t) => {
  const place = await Place.make(t)
  const [desk, laptop] = [await place.host('desk'), await place.host('laptop')]
  await place.write('work/file', 'what matters')
  await randomFile(place.path('work/big'), 24)
  await desk.ok('add', place.path('work'), '--name', 'work', '--vm', 'folder')
  await place.write('other/file', 'other')
  await desk.ok('add', place.path('other'), '--name', 'other', '--vm', 'folder')
  await desk.ok('suspend', 'other')
  await desk.ok('suspend', 'work')
  assert.match(await desk.fails(5, 'remove', 'work'), /--force/)
  const { invite } = await desk.result('invite', 'work', '--role', 'owner')
  await laptop.ok('join', String(invite))
  await eventually(async () => {
    const [head] = objects(await desk.ok('log', 'work', '--json'))
    return (Array.isArray(head?.['holders']) && head['holders'].includes('laptop')) || null
  }, 'the laptop has all of it, and has said so')

  const unused = await desk.result('invite', 'work')
  assert.match(await desk.ok('remove', 'work'), /not on this host any more/)
  assert.deepEqual(await names(desk), ['other'])
  assert.equal(await readFile(place.path('work/file'), 'utf8'), 'what matters')
  const used = async (): Promise<number> => (await desk.client.call('vaults', {})).used
  await eventually(async () => ((await used()) < 8 << 20 ? true : null), 'its space is back')
  assert.deepEqual(
    (await readdir(join(desk.home, 'parcels'))).filter((name) => name.endsWith('.parcel')).length,
    1
  )
  // An invite to it that is still about lets nobody in.
  const late = await place.host('late')
  assert.match(
    await late.fails(12, 'join', String(unused['invite'])),
    /refused: ask for a new invite/
  )
  await desk.fails(1, 'remove', 'work')

  // From the other host, and after a restart, as a newcomer would.
  const again = await laptop.result('invite', 'work')
  await desk.ok('join', String(again['invite']))
  await desk.ok('daemon', 'stop')
  await desk.ok('resume', 'work', '--to', place.path('back'))
  assert.equal(await readFile(place.path('back/file'), 'utf8'), 'what matters')
  await place.write('back/file', 'more')
  await desk.ok('suspend', 'work')
  await eventually(async () => {
    const [head] = objects(await laptop.ok('log', 'work', '--json'))
    return (head?.['authorName'] === 'desk' && head['isHere'] === true) || null
  }, 'what it makes then counts')
  await desk.ok('remove', 'other', '--force')
  assert.deepEqual(await names(desk), ['work'])
})
