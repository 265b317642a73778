import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { finish } from '../support/cli.js'
import { eventually } from '../support/hosts.js'
import { objects, Place } from './place.js'

test('suspend --on: refused there at first, then done; both have it in their events', async (t) => {
  const place = await Place.make(t)
  const [home, away] = [await place.host('home'), await place.host('away')]
  await place.write('work/file', 'first')
  await home.ok('add', place.path('work'), '--name', 'work', '--vm', 'folder')
  await home.ok('suspend', 'work')
  await away.ok('join', String((await home.result('invite', 'work'))['invite']))
  await place.write('work/file', 'second')
  const following = away.start('events', '--follow', '--json')
  following.stdin?.end()
  const followed = finish(following)

  const asking = away.start('suspend', 'work', '--on', 'home', '--grace', '60s')
  asking.stdin?.end()
  const asked = finish(asking)
  const status = await eventually(async () => {
    const text = await home.ok('status', 'work')
    return text.includes('asks that it is suspended here') ? text : null
  }, 'the question')
  assert.match(
    status,
    /away asks .*: in \d+ s; 'hyperparcel suspend work --refuse' keeps it running/
  )
  assert.match(await home.ok('suspend', 'work', '--refuse'), /kept running: away is told/)
  const refused = await asked
  assert.equal(refused.code, 1)
  assert.match(refused.stderr, /somebody at home keeps "work" running/)

  const said = await away.ok('suspend', 'work', '--on', 'home', '--grace', '0s')
  assert.match(said, /^work \w{12}: suspended on home; here, durable\n$/)
  await away.ok('resume', 'work', '--to', place.path('there'))
  assert.equal(await readFile(place.path('there/file'), 'utf8'), 'second')

  const all = async () => objects(await home.ok('events', 'work', '--json'))
  // What it has noticed of its own version comes a second later.
  await eventually(async () => {
    const noted = await all()
    const id = noted.find(({ event }) => event === 'suspended')?.['version']
    return noted.some(({ event, version }) => event === 'whole' && version === id) || null
  }, 'all is noted')
  const events = await all()
  assert.deepEqual(
    events.map(({ event }) => event).filter((event) => String(event).startsWith('suspend')),
    ['suspend-asked', 'suspend-refused', 'suspend-asked', 'suspended']
  )
  const last = events.at(-1)
  assert.ok(last)
  assert.deepEqual(
    objects(await home.ok('events', '--json', '--since', String(last['number']))),
    []
  )
  following.kill('SIGINT')
  const { code, stdout } = await followed
  assert.equal(code, 130)
  const seen = objects(stdout).map(({ event }) => event)
  for (const event of ['connected', 'version', 'whole', 'suspended']) {
    assert.ok(seen.includes(event), `${event} in ${seen.join(', ')}`)
  }
  for (const wrong of [
    ['--on', 'home', '--grace', 'soon'],
    ['--on', 'nobody'],
    ['--on', 'away'],
    ['--on', 'home', '--to', 'home'],
    ['--on', 'home', '-m', 'a word']
  ]) {
    assert.equal((await away.run('suspend', 'work', ...wrong)).code, 2, wrong.join(' '))
  }
})

test('transfers, and status --watch: one object for each parcel, again each second', async (t) => {
  const place = await Place.make(t)
  const [home, away] = [await place.host('home'), await place.host('away')]
  await place.write('work/file', 'something')
  await home.ok('add', place.path('work'), '--name', 'work', '--vm', 'folder')
  await home.ok('suspend', 'work')
  await away.ok('join', String((await home.result('invite', 'work'))['invite']))
  const text = await eventually(async () => {
    const said = await away.ok('transfers')
    return /all is here\n {2}home \(lan, tcp\): .*\/s down, .* came, /.test(said) ? said : null
  }, 'all of it')
  assert.match(text, /^work: all is here/)
  const watching = away.start('status', 'work', '--watch', '--json')
  watching.stdin?.end()
  const watched = finish(watching)
  const began = performance.now()
  await eventually(() => performance.now() - began > 3_500 || null, 'some seconds')
  watching.kill('SIGINT')
  const { code, stdout } = await watched
  assert.equal(code, 130)
  const seen = objects(stdout).filter(({ type }) => type === 'parcel')
  assert.ok(seen.length >= 2, `${seen.length} times`)
  for (const parcel of seen) assert.deepEqual(parcel['missing'], { blocks: 0, bytes: 0 })
  const watch = away.start('status', 'work', '--watch')
  watch.stdin?.end()
  const ended = finish(watch)
  await eventually(() => performance.now() - began > 6_000 || null, 'some seconds')
  watch.kill('SIGINT')
  assert.match((await ended).stdout, /all is here\n {2}home \(lan, tcp\)/)
  await home.ok('daemon', 'stop')
  await eventually(async () => {
    return /home: not connected, last heard/.test(await away.ok('transfers', 'work')) || null
  }, 'that it is gone')
})

test('suspend --to waits until that host has all of it; predict says where it goes', async (t) => {
  const place = await Place.make(t)
  const [home, away] = [await place.host('home'), await place.host('away')]
  await place.write('work/file', 'something')
  await home.ok('add', place.path('work'), '--name', 'work', '--vm', 'folder')
  assert.match(await home.ok('predict', 'work'), /nobody knows/)
  await home.ok('suspend', 'work')
  await away.ok('join', String((await home.result('invite', 'work'))['invite']))
  await place.write('work/file', 'something else')
  const said = await home.ok('suspend', 'work', '--to', 'away')
  assert.match(said, /here, durable/)
  assert.match(said.trimEnd().split('\n').at(-1) ?? '', /away/)
  assert.equal((await home.run('suspend', 'work', '--to', 'nobody')).code, 2)
  await away.ok('resume', 'work', '--to', place.path('there'))
  await place.write('there/file', 'of the other one')
  await away.ok('suspend', 'work', '--to', 'home')
  assert.match(await home.ok('predict', 'work'), /next away 100% \(from 1 hand-off\)/)
  await away.ok('daemon', 'stop')
  const late = await home.run('suspend', 'work', '--to', 'away', '--wait', '1')
  assert.equal(late.code, 5)
  assert.match(late.stderr, /away does not have all of it yet: bring it online/)
})
