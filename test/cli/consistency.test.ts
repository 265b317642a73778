import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { finish } from '../support/cli.js'
import { eventually } from '../support/hosts.js'
import { objects, Place, type User } from './place.js'

/** What a resume listens at most when it is not told to wait, and some, ms. */
const LISTENS = 7_000

async function joined(place: Place, desk: User, laptop: User, name: string): Promise<void> {
  await laptop.ok('join', String((await desk.result('invite', name))['invite']))
  await eventually(async () => {
    const [head] = JSON.parse(await laptop.ok('status', name, '--json')).heads
    return head?.isHere === true || null
  }, `${name} in ${place.dir}`)
}

test('latest: a resume waits for a host that was heard lately; available: it goes on and says so', async (t) => {
  const place = await Place.make(t)
  const [desk, laptop] = [await place.host('desk'), await place.host('laptop')]
  await place.write('work/file', 'old')
  await desk.ok('add', place.path('work'), '--name', 'work', '--vm', 'folder')
  await desk.ok('suspend', 'work')
  await joined(place, desk, laptop, 'work')
  await laptop.ok('daemon', 'stop')
  await place.write('work/file', 'new')
  await desk.ok('suspend', 'work')
  await desk.ok('daemon', 'stop')

  const to = place.path('on-laptop')
  const said = await laptop.run('resume', 'work', '--to', to)
  assert.equal(said.code, 0, said.stderr)
  assert.match(said.stderr, /not heard from: desk \(for .*\); they may have newer versions/)
  assert.equal(await readFile(place.path('on-laptop/file'), 'utf8'), 'old')

  assert.match(await laptop.ok('consistency', 'work'), /available/)
  assert.match(await laptop.ok('consistency', 'work', 'latest', '--days', '2'), /heard in 2 days/)
  assert.equal((await laptop.run('consistency', 'work', 'sometimes')).code, 2)
  assert.equal((await laptop.run('consistency', 'work', '--days', '0')).code, 2)
  const waiting = laptop.start('resume', 'work', '--timeout', '60', '--json')
  waiting.stdin?.end()
  const ended = finish(waiting)
  const first = await Promise.race([ended, setTimeout(LISTENS, null)])
  assert.equal(first, null, 'it waits for the desk')
  await desk.ok('status', 'work')
  const { code, stdout } = await ended
  assert.equal(code, 0, stdout)
  assert.deepEqual(objects(stdout).at(-1)?.['silent'], [])
  assert.equal(await readFile(place.path('on-laptop/file'), 'utf8'), 'new')

  // As long as it was told, and no longer.
  await desk.ok('daemon', 'stop')
  const late = await laptop.run('resume', 'work', '--timeout', '1')
  assert.equal(late.code, 0, late.stderr)
  assert.match(late.stderr, /not heard from: desk/)
})

test('where a machine runs is told to the others, and that it does no more', async (t) => {
  const place = await Place.make(t)
  const [desk, laptop] = [await place.host('desk'), await place.host('laptop')]
  await place.write('vm/machine.json', JSON.stringify({ vmm: 'v86', memory: '4M' }))
  await desk.ok('add', place.path('vm'), '--name', 'vm', '--vm', 'v86')
  await desk.ok('run', 'vm')
  await desk.ok('suspend', 'vm')
  await joined(place, desk, laptop, 'vm')
  const told = (): Promise<string> => laptop.ok('status', 'vm')
  assert.doesNotMatch(await told(), /its machine runs/)
  await desk.ok('resume', 'vm')
  await eventually(
    async () =>
      /owner desk, connected, its machine runs since \d+:\d\d/.test(await told()) ? true : null,
    'it is told'
  )
  const { code, stderr } = await laptop.run('resume', 'vm', '--to', place.path('there'))
  assert.equal(code, 0, stderr)
  assert.match(stderr, /it runs on desk since .*second head/)
  await laptop.ok('stop', 'vm')
  // Also when it ended by itself: whoever looks notices, and tells.
  await desk.ok('stop', 'vm')
  await eventually(async () => (/its machine runs/.test(await told()) ? null : true), 'it is over')
})
