import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { eventually } from '../support/hosts.js'
import { objects, Place } from './place.js'

test('hoard and unhoard say what comes here, and it is remembered', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  await place.write('work/file', 'something')
  await user.ok('add', place.path('work'), '--name', 'work', '--vm', 'folder')
  assert.match(await user.ok('hoard', 'work'), /all of every version comes here by itself/)
  assert.match(await user.ok('hoard', 'work', '--versions', 'last:3'), /the last 3 versions/)
  const some = await user.ok('hoard', 'work', '--versions', 'head', '--files', 'a/*', 'b')
  assert.match(some, /the newest version, of it only a\/\*, b/)
  await user.ok('daemon', 'stop')
  const [info] = objects(await user.ok('hoard', 'work', '--json'))
  assert.deepEqual([info?.['versions'], info?.['files']], ['head', ['a/*', 'b']])
  assert.match(await user.ok('unhoard', 'work'), /nothing that is not asked for/)
  for (const wrong of ['some', 'none', 'last:0', 'last:x']) {
    assert.equal((await user.run('hoard', 'work', '--versions', wrong)).code, 2, wrong)
  }
  assert.equal((await user.run('unhoard', 'nothing')).code, 1)
})

test('carry fills a disk with what another host lacks; carry there hands it over', async (t) => {
  const place = await Place.make(t)
  const [here, there] = [await place.host('here'), await place.host('there')]
  await place.write('work/file', 'first')
  await here.ok('add', place.path('work'), '--name', 'work', '--vm', 'folder')
  await here.ok('suspend', 'work')
  const stick = place.path('stick')
  const alone = await here.run('carry', stick, 'work')
  assert.equal(alone.code, 2)
  assert.match(alone.stderr, /there is nobody to carry it to/)
  await there.ok('join', String((await here.result('invite', 'work'))['invite']))
  await eventually(async () => {
    const versions = objects(await there.ok('log', 'work', '--json'))
    return versions.some((each) => each['isHere'] === true) || null
  }, 'the first version')
  await there.ok('daemon', 'stop')
  const contents = randomBytes(100_000)
  await writeFile(join(place.path('work'), 'file'), contents)
  await here.ok('suspend', 'work')
  assert.match(
    await here.ok('carry', stick, 'work', '--to', 'there'),
    /has all of work that there may lack/
  )
  await here.ok('vault', stick, '--close')
  await here.ok('daemon', 'stop')
  assert.match(await there.ok('carry', stick), /all that it carries for this host is here/)
  await there.ok('resume', 'work', '--offline', '--to', place.path('to'))
  assert.deepEqual(await readFile(place.path('to/file')), contents)
  assert.equal((await there.run('carry', place.path('work'))).code, 2)
  assert.equal((await there.run('carry', stick, '--to', 'here')).code, 2)
})
