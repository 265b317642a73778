import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { objects, Place } from './place.js'

test('limits by time of day are set, added to, shown, and remembered; pause too', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  assert.equal(await user.ok('limits'), 'no limits\n')
  await user.ok('limits', '--up', '2M', '--down', '10M')
  await user.ok('limits', '--up', '200k', '--between', '8:00-18:00')
  await user.ok('limits', '--peer-up', '100k/s', '--between', '8:00-18:00')
  const said = await user.ok('limits')
  assert.match(said, /at any other time: 2\.1 MB\/s up, 10\.5 MB\/s down/)
  assert.match(said, /8:00-18:00: 205 kB\/s up, 102 kB\/s up to each host/)
  await place.write('work/file', 'something')
  await user.ok('add', place.path('work'), '--name', 'work', '--vm', 'folder')
  assert.match(await user.ok('pause', 'work'), /paused: work/)
  await user.ok('daemon', 'stop')
  const [info] = objects(await user.ok('limits', '--json'))
  assert.deepEqual(info?.['paused'], ['work'])
  assert.equal((await user.run('pause', 'nothing')).code, 1)
  assert.match(await user.ok('pause'), /paused: of versions only/)
  assert.doesNotMatch(await user.ok('pause', '--off'), /paused/)
  assert.match(await user.ok('limits', '--metered', 'on'), /the link is metered/)
  await user.ok('limits', '--up', 'none', '--down', 'none')
  assert.doesNotMatch(await user.ok('limits'), /any other time/)
  const more = ['--peer-down', '50k', '--metered-on', 'wwan*', 'Hotel WiFi', '--weak-below', '64k']
  const told = await user.ok('limits', ...more)
  assert.match(
    told,
    /51\.2 kB\/s down from each\nmetered on wwan\*, Hotel WiFi\nweak below 65\.5 kB\/s/
  )
  await user.ok('limits', '--metered-on', 'none', '--weak-below', 'none')
  assert.match(await user.ok('limits', '--clear', '--metered', 'off'), /^no limits\n$/)
  for (const wrong of [
    ['--up', 'fast'],
    ['--up', '0'],
    ['--between', '8:00-18:00'],
    ['--up', '1M', '--between', '8-18'],
    ['--up', '1M', '--between', '8:00-25:00'],
    ['--metered', 'maybe'],
    ['--weak-below', 'slow'],
    ['--peer-down', '-1']
  ]) {
    assert.equal((await user.run('limits', ...wrong)).code, 2, wrong.join(' '))
  }
})

test('limits that cannot be read are not taken for none', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  await user.ok('limits', '--up', '1M')
  await user.ok('daemon', 'stop')
  const path = join(user.home, 'limits')
  assert.match(await readFile(path, 'utf8'), /1048576/)
  await writeFile(path, '{"rules":')
  const { code, stderr } = await user.run('ls')
  assert.equal(code, 7, stderr)
  assert.match(stderr, /limits cannot be read: delete it/)
})
