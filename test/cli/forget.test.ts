import assert from 'node:assert/strict'
import { test } from 'node:test'
import { eventually } from '../support/hosts.js'
import { randomFile } from './blob.js'
import { failure, objects, Place } from './place.js'

test('forget says which, prune gives their space back, and asks for more copies with exit 5', async (t) => {
  const place = await Place.make(t)
  const desk = await place.host('desk')
  const ids: string[] = []
  await place.write('work/file', '')
  await randomFile(place.path('work/big'), 8)
  await desk.ok('add', place.path('work'), '--name', 'work', '--vm', 'folder')
  for (let n = 0; n < 6; n++) {
    await place.write('work/file', `version ${n}`)
    await randomFile(place.path('work/new'), 4)
    const [made] = objects(await desk.ok('suspend', 'work', '--json')).slice(-1)
    ids.push(String(made?.['id']))
  }
  const [head = ''] = ids.slice(-1)
  await desk.ok('tag', 'work', 'release-1', ids[0] ?? '')
  await desk.fails(2, 'forget', 'work', head)
  await desk.fails(1, 'forget', 'work', '00000000')
  assert.equal((await desk.run('forget', 'work', '--keep-last', 'many')).code, 2)
  assert.match(await desk.ok('forget', 'work'), /nothing is forgotten by itself/)
  const keep = ['--keep-last', '2', '--keep-tag', 'release-*']
  const dry = objects(await desk.ok('forget', 'work', ...keep, '--dry-run', '--json'))
  assert.deepEqual(
    dry
      .filter(({ type }) => type === 'version')
      .map(({ id }) => id)
      .toSorted(),
    ids.slice(1, 4).toSorted()
  )
  assert.match(
    await desk.ok('forget', 'work', ...keep),
    /3 versions forgotten, 3 kept: .*prune work/
  )
  assert.match(await desk.ok('log', 'work'), /forgotten/)
  assert.match(
    await desk.fails(5, 'prune', 'work', '--timeout', '0.2'),
    /3 versions stay on this host: no other host has confirmed now.*copies work 0/
  )
  await desk.ok('restore', 'work', ids[1] ?? '', '--to', place.path('still'))
  await desk.ok('copies', 'work', '0')
  const used = async (): Promise<number> => (await desk.client.call('vaults', {})).used
  const before = await used()
  assert.match(await desk.ok('prune', 'work'), /3 versions are not on this host any more/)
  await eventually(async () => ((await used()) < before - (4 << 20) ? true : null), 'space is back')
  const gone = ['restore', 'work', ids[1] ?? '', '--to', place.path('gone'), '--timeout', '6']
  const waited = await desk.run(...gone)
  assert.match(
    waited.stderr,
    /fetching: nothing has come for 5 s, it waits for a host that has some/
  )
  failure(waited, 6, 'restore')
  for (const id of [ids[0] ?? '', ids[4] ?? '', head]) {
    await desk.ok('restore', 'work', id, '--to', place.path(`at-${id}`))
  }
  assert.match(await desk.ok('forget', 'work', '--undo', ids[2] ?? ''), /they are kept/)
  await desk.ok('verify', 'work')

  // By itself from now on.
  assert.match(await desk.fails(2, 'forget', 'work', '--auto'), /--auto goes with/)
  await desk.ok('forget', 'work', '--keep-last', '1', '--auto')
  assert.match(await desk.ok('forget', 'work'), /but for 1 newest/)
  await desk.ok('forget', 'work', '--no-auto')
  assert.match(await desk.ok('forget', 'work'), /nothing is forgotten by itself/)
})
