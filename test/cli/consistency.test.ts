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

test('a lease is one host\u2019s: exit 11 for another while it is in use, and --force at a cost', async (t) => {
  const place = await Place.make(t)
  const [laptop, desk] = [await place.host('laptop'), await place.host('desk')]
  await place.write('work/file', 'first')
  await laptop.ok('add', place.path('work'), '--name', 'work', '--vm', 'folder')
  await laptop.ok('suspend', 'work')
  const { invite } = await laptop.result('invite', 'work')
  await desk.ok('join', String(invite))
  assert.match(await laptop.ok('lease', 'work'), /nobody needs a lease/)
  await desk.fails(2, 'lease', 'work', '--take')
  assert.match(await laptop.ok('consistency', 'work', 'lease'), /one host at a time/)
  assert.match(await laptop.ok('status', 'work'), /lease 1 is here, begun/)
  await place.write('work/file', 'in the middle of it')
  await eventually(
    async () => (/laptop's/.test(await desk.ok('lease', 'work')) ? true : null),
    'the desk knows of the lease'
  )
  const at = place.path('on-desk')
  assert.match(await desk.fails(11, 'resume', 'work', '--to', at), /it is in use there/)
  await laptop.ok('suspend', 'work', '--scan', 'full')
  assert.match(await laptop.ok('lease', 'work', '--to', 'desk'), /lease 2 is desk's, handed over/)
  await laptop.fails(11, 'lease', 'work', '--to', 'desk')
  await laptop.fails(11, 'consistency', 'work', 'available')
  await desk.ok('resume', 'work', '--to', at)
  await place.write('on-desk/file', 'on the desk')
  await laptop.fails(11, 'lease', 'work', '--take')
  const [lease] = objects(await laptop.ok('lease', 'work', '--force', '--json')).slice(-1)
  assert.deepEqual([lease?.['isHere'], lease?.['origin']], [true, 'forced'])
  await eventually(
    async () => (/laptop's/.test(await desk.ok('lease', 'work')) ? true : null),
    'the desk knows that it has lost it'
  )
  const said = await desk.run('suspend', 'work', '--scan', 'full')
  assert.equal(said.code, 0)
  assert.match(said.stderr, /lease elsewhere: this version is a second head/)
  assert.match(await desk.ok('log', 'work'), /made without the lease/)
  const refused = await desk.run('resume', 'work', '--to', place.path('x'), '--force')
  assert.equal(refused.code, 4)
  assert.match(refused.stderr, /made without the lease: choose/)
})
