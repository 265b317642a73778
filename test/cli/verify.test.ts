import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { ParcelInfo } from '../../lib/index.js'
import { flipBits } from '../host/rot.js'
import { eventually } from '../support/hosts.js'
import { objects, Place, type User } from './place.js'

async function parcelOn(user: User): Promise<ParcelInfo> {
  return user.client.call('status', { name: 'work' })
}

test('verify, salvage and rebuild: what rots comes again, or is named', async (t) => {
  const place = await Place.make(t)
  const desk = await place.host('desk')
  const contents = randomBytes(400_000)
  for (let n = 0; n < 10; n++) await place.write(`work/file-${n}`, contents.subarray(n * 1_000))
  await desk.ok('add', place.path('work'), '--name', 'work', '--vm', 'folder')
  await desk.ok('suspend', 'work')
  assert.match(await desk.ok('verify'), /\d+ blocks \(.*\): nothing is damaged/)
  assert.match(await desk.ok('verify', 'work', '--sample', '50%'), /nothing is damaged/)
  for (const wrong of ['0', '101%', 'x', '-5%']) {
    assert.equal((await desk.run('verify', 'work', `--sample=${wrong}`)).code, 2, wrong)
  }
  await desk.fails(1, 'verify', 'nobody')

  // Nobody else has it.
  await desk.ok('daemon', 'stop')
  await flipBits(join(desk.home, 'store'), 1)
  const ran = await desk.run('verify', '--timeout', '0', '--json')
  assert.equal(ran.code, 7, ran.stdout)
  const lost = objects(ran.stdout).filter(({ type }) => type === 'lost')
  assert.ok(lost.length > 0)
  assert.match(await desk.ok('status', 'work'), /damaged on this disk/)
  const salvaged = await desk.run('salvage', 'work', '--to', place.path('rescued'), '--json')
  assert.equal(salvaged.code, 3, salvaged.stdout)
  await place.write('rescued/mine', '')
  await desk.fails(4, 'salvage', 'work', '--to', place.path('rescued'))
  // The folder has it all: that is a whole version again.
  const { id, isHere } = await desk.result('suspend', 'work', '--scan', 'full')
  assert.equal(isHere, true)
  await desk.ok('restore', 'work', String(id), '--to', place.path('whole'))
  assert.deepEqual(await readFile(place.path('whole/file-3')), contents.subarray(3_000))

  // A store that does not open at all.
  const laptop = await place.host('laptop')
  await laptop.ok('join', String((await desk.result('invite', 'work'))['invite']))
  await eventually(async () => {
    const { heads } = await parcelOn(laptop)
    return heads[0]?.isHere || null
  }, 'it is on the laptop')
  await laptop.ok('daemon', 'stop')
  await writeFile(join(laptop.home, 'store/db/CURRENT'), 'MANIFEST-999999\n')
  assert.match(await laptop.fails(7, 'status'), /hyperparcel rebuild/)
  assert.match(await laptop.ok('rebuild'), /work comes back/)
  assert.ok((await readdir(laptop.home)).includes('store.damaged-1'))
  await eventually(async () => {
    const [head] = (await parcelOn(laptop)).heads
    return (head?.id === id && head?.isHere) || null
  }, 'it came again')
  await laptop.ok('resume', 'work', '--to', place.path('on-laptop'))
  await place.write('on-laptop/more', 'more')
  const next = await laptop.result('suspend', 'work')
  assert.deepEqual(next['parents'], [id])

  assert.match(
    await laptop.ok('scrub', '--quota', '10G'),
    /10\.7 GB a day, not through yet, 0 damaged/
  )
  assert.match(await laptop.ok('scrub', '--quota', 'none'), /no scrub/)
})
