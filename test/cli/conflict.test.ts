import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test, type TestContext } from 'node:test'
import { eventually } from '../support/hosts.js'
import { objects, Place, type Printed, type User } from './place.js'

async function ids(user: User): Promise<string[]> {
  const { heads }: { heads: Printed[] } = JSON.parse(await user.ok('status', 'work', '--json'))
  return heads.map((head) => String(head['id'])).toSorted()
}

/** Two hosts of which each went on from one version while the other was off, and now they have met. */
async function conflict(t: TestContext): Promise<{ place: Place; desk: User; laptop: User }> {
  const place = await Place.make(t)
  const [desk, laptop] = [await place.host('desk'), await place.host('laptop')]
  await place.write('desk-work/file', 'base')
  await desk.ok('add', place.path('desk-work'), '--name', 'work', '--vm', 'folder')
  await desk.ok('suspend', 'work')
  await laptop.ok('join', String((await desk.result('invite', 'work'))['invite']))
  await laptop.ok('resume', 'work', '--to', place.path('laptop-work'))
  await laptop.ok('daemon', 'stop')
  await place.write('desk-work/file', 'of the desk')
  await desk.ok('suspend', 'work')
  await desk.ok('daemon', 'stop')
  await place.write('laptop-work/file', 'of the laptop')
  await laptop.ok('suspend', 'work', '--offline')
  await eventually(async () => ((await ids(desk)).length === 2 ? true : null), 'desk has heard')
  await eventually(async () => ((await ids(laptop)).length === 2 ? true : null), 'laptop has heard')
  return { place, desk, laptop }
}

async function sameHeads(one: User, other: User, count: number): Promise<string[]> {
  return eventually(async () => {
    const [a, b] = [await ids(one), await ids(other)]
    return a.length === count && a.join() === b.join() ? a : null
  }, `${count} heads on both hosts`)
}

test('two heads: said everywhere, refused without a choice, settled for one of them on every host', async (t) => {
  const { place, desk, laptop } = await conflict(t)
  for (const user of [desk, laptop]) {
    assert.match(await user.ok('status', 'work'), /2 heads: a conflict[^]*hyperparcel resolve work/)
    assert.match(await user.ok('ls'), /conflict/)
    assert.match(await user.ok('log', 'work'), /^\* [^]*\n\| \* [^]*\n\|\/\no /)
    assert.match(await user.fails(4, 'resume', 'work'), /--version/)
    await user.fails(4, 'rollback', 'work', (await ids(user))[0] ?? '')
    await user.fails(4, 'show', 'work')
    await user.fails(4, 'resolve', 'work')
  }
  const heads = objects(await desk.ok('log', 'work', '--json'))
  const mine = heads.find(({ authorName, isHead }) => isHead === true && authorName === 'desk')
  const base = heads.find(({ isHead }) => isHead === false)
  await laptop.fails(2, 'resolve', 'work', '--take', String(base?.['id']))
  await laptop.fails(2, 'resolve', 'work', '--take', String(mine?.['id']), '--keep-both')
  const settled = await laptop.result('resolve', 'work', '--take', String(mine?.['id']))
  const [head] = await sameHeads(desk, laptop, 1)
  assert.equal(head, settled['id'])
  // Whoever has what was taken goes on from there without a new conflict.
  await place.write('desk-work/more', 'more')
  const next = await desk.result('suspend', 'work')
  assert.deepEqual(next['parents'], [head])
  await sameHeads(desk, laptop, 1)
  // What the laptop had is in the history, and its folder may be replaced: it is all in a version.
  await laptop.ok('resume', 'work')
  assert.equal(await readFile(place.path('laptop-work/file'), 'utf8'), 'of the desk')
  await laptop.fails(2, 'resolve', 'work', '--take', String(next['id']))
})

test('two heads: both kept as branches, each with its own head from then on, and one again', async (t) => {
  const { place, desk, laptop } = await conflict(t)
  await desk.fails(2, 'resolve', 'work', '--keep-both', '--as', 'one')
  await desk.fails(1, 'resolve', 'work', '--keep-both', '--as', 'one,one')
  await desk.fails(2, 'resolve', 'work', '--keep-both', '--as', 'one,../two')
  await desk.ok('resolve', 'work', '--keep-both')
  await sameHeads(desk, laptop, 2)
  for (const user of [desk, laptop]) {
    // The folder goes on from the head that was kept, before any suspend.
    await user.ok('resume', 'work')
    await user.ok('show', 'work')
    assert.match(await user.ok('status', 'work'), /2 branches/)
    await user.fails(2, 'resolve', 'work', '--keep-both')
  }
  for (const [user, name] of [
    [desk, 'desk'],
    [laptop, 'laptop']
  ] as const) {
    await place.write(`${name}-work/file`, `later of the ${name}`)
    assert.equal((await user.result('suspend', 'work'))['branch'], name)
    // The folder is on a branch: that one's head is meant.
    await user.ok('resume', 'work')
    assert.equal(await readFile(place.path(`${name}-work/file`), 'utf8'), `later of the ${name}`)
  }
  await sameHeads(desk, laptop, 2)
  await desk.ok('resume', 'work', '--version', 'laptop')
  assert.equal(await readFile(place.path('desk-work/file'), 'utf8'), 'later of the laptop')
  const one = await desk.result('resolve', 'work', '--take', 'laptop')
  assert.equal(one['branch'], '')
  assert.deepEqual(await sameHeads(desk, laptop, 1), [one['id']])
})

test('a suspend says that there are several heads; what a verb is told is looked at before it does anything', async (t) => {
  const place = await Place.make(t)
  const desk = await place.host('desk')
  await place.write('work/file', 'one')
  await desk.ok('add', place.path('work'), '--name', 'work', '--vm', 'folder')
  const first = await desk.result('suspend', 'work', '--offline')
  assert.deepEqual([first['heads'], first['isInConflict']], [1, false])
  await place.write('work/file', 'two')
  await desk.ok('suspend', 'work', '--offline')
  await desk.ok('rollback', 'work', String(first['id']))

  // Nobody is there to send it to, and nobody else is asked to suspend it.
  assert.match(await desk.fails(2, 'suspend', 'work', '--to', 'nobody'), /no other member "nobody"/)
  assert.match(await desk.fails(2, 'suspend', 'work', '--grace', '5s'), /goes with --on/)
  assert.equal((await desk.ok('log', 'work', '--json')).split('\n').length, 4)
  assert.match(await desk.fails(1, 'events', 'nothing'), /no parcel "nothing" here/)

  await place.write('work/file', 'three')
  const { stderr } = await desk.run('suspend', 'work', '--offline')
  assert.match(stderr, /work has 2 heads .*'hyperparcel resolve work' settles it/)
  const again = await desk.result('suspend', 'work', '--offline')
  assert.deepEqual([again['heads'], again['isInConflict']], [2, true])

  // Nor is the parcel somewhere else without a word.
  const there = place.path('there')
  const moved = await desk.run('resume', 'work', '--version', String(first['id']), '--to', there)
  assert.match(
    moved.stderr,
    /work is in .*there from now on: what is done in .*work is no part of it/
  )
  await desk.ok('pause', 'work')
  assert.match(await desk.ok('status', 'work'), /\n {2}paused: 'hyperparcel pause --off'/)
})
