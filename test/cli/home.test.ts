import assert from 'node:assert/strict'
import { chmod, chown, cp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { isRoot, NOBODY, Place } from './place.js'

const ROOT_ONLY = isRoot ? false : 'needs root to be two users'

test('init makes a private home and tells whose it is', async (t) => {
  const place = await Place.make(t)
  const user = place.user('one')
  const made = await user.result('init', '--name', 'one')
  assert.equal(made['name'], 'one')
  assert.match(String(made['id']), /^[0-9a-f]{64}$/)
  assert.equal((await stat(user.home)).mode & 0o777, 0o700)
  assert.equal((await stat(join(user.home, 'identity.key'))).mode & 0o777, 0o600)
  assert.deepEqual(await user.result('id'), { ...made, type: 'host' })
})

test('init twice is an error and changes nothing', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  const key = await readFile(join(user.home, 'identity.key'))
  const line = await user.fails(1, 'init', '--name', 'two')
  assert.match(line, /already/)
  assert.deepEqual(await readFile(join(user.home, 'identity.key')), key)
})

test('init closes a folder that was open to others', async (t) => {
  const place = await Place.make(t)
  const user = place.user('one')
  await place.write('homes/one/other.txt', 'was here')
  await chmod(user.home, 0o777)
  await user.ok('init')
  assert.equal((await stat(user.home)).mode & 0o777, 0o700)
  assert.equal(await readFile(join(user.home, 'other.txt'), 'utf8'), 'was here')
})

test('init where a file or nothing writable is', async (t) => {
  const place = await Place.make(t)
  const file = await place.write('file', '')
  const user = place.user('one')
  await user.fails(10, 'init', '--home', file)
  assert.match(await user.fails(10, 'init', '--home', join(file, 'below')), /file/)
  await user.fails(2, 'init', '--name', 'a\nb')
  await user.fails(2, 'init', '--name', '')
  await user.fails(2, 'init', '--name', 'x'.repeat(65))
  await assert.rejects(stat(user.home), { code: 'ENOENT' })
})

test('a home may be reached by a symlink', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  await symlink(user.home, place.path('link'))
  const { id } = await user.result('id')
  assert.equal((await user.result('id', '--home', place.path('link')))['id'], id)
})

test('no home is exit 10 for every verb, and init is the advice', async (t) => {
  const place = await Place.make(t)
  const user = place.user('none')
  for (const args of [['id'], ['ls'], ['suspend', 'x'], ['join', 'x'], ['daemon']]) {
    assert.match(await user.fails(10, ...args), /hyperparcel init/)
  }
  await assert.rejects(stat(user.home), { code: 'ENOENT' })
})

test('the home of another user is refused', { skip: ROOT_ONLY }, async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  await chown(user.home, NOBODY, NOBODY)
  for (const args of [['id'], ['ls'], ['init'], ['daemon']]) {
    assert.match(await user.fails(12, ...args), /another user/)
  }
  await chown(user.home, 0, 0)
  // A stranger meets a daemon that runs.
  await user.ok('ls')
  await chmod(place.dir, 0o755)
  await chmod(place.path('homes'), 0o755)
  const stranger = place.user('one', { uid: NOBODY })
  for (const args of [['id'], ['ls'], ['init'], ['daemon', 'status'], ['daemon', 'stop']]) {
    assert.match(await stranger.fails(12, ...args), /another user/)
  }
})

test('a damaged key is exit 12', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  const path = join(user.home, 'identity.key')
  const text = await readFile(path, 'utf8')
  for (const bad of ['', text.slice(0, -20), text.replace('secret', 'secrets'), '\0'.repeat(300)]) {
    await writeFile(path, bad)
    assert.match(await user.fails(12, 'id'), /identity\.key is damaged/)
    await user.fails(12, 'ls')
  }
  await writeFile(path, text.replace('identity 2', 'identity 3'))
  assert.match(await user.fails(1, 'id'), /newer/)
  await writeFile(
    path,
    text.replace('identity 2', 'identity 3').replace(/secret.*/, 'key elsewhere')
  )
  assert.match(await user.fails(1, 'id'), /newer/)
  await rm(path)
  await user.fails(10, 'id')
})

test('the key of another home is exit 12, and the right one opens it again', async (t) => {
  const place = await Place.make(t)
  const one = await place.host('one')
  const two = await place.host('two')
  await place.write('files/a', 'a')
  await one.ok('add', place.path('files'), '--name', 'files')
  await one.ok('suspend', 'files')
  await one.ok('daemon', 'stop')
  const path = join(one.home, 'identity.key')
  await cp(path, place.path('kept'))
  await cp(join(two.home, 'identity.key'), path)
  await one.fails(12, 'ls')
  await one.fails(12, 'suspend', 'files')
  await cp(place.path('kept'), path)
  assert.equal((await one.result('status', 'files'))['versions'], 1)
})

test('a damaged state file is a clear error, and no reason to lose the rest', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  await place.write('files/a', 'a')
  const { id } = await user.result('add', place.path('files'), '--name', 'files')
  await user.ok('daemon', 'stop')
  const path = join(user.home, 'parcels', `${String(id)}.parcel`)
  const bytes = await readFile(path)
  await writeFile(path, bytes.subarray(0, 10))
  await user.fails(12, 'ls')
  await writeFile(path, bytes)
  await user.ok('ls')
})

test('a copied store is refused with exit 8', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  await place.write('files/a', 'a')
  await user.ok('add', place.path('files'), '--name', 'files')
  await user.ok('daemon', 'stop')
  await cp(user.home, place.path('homes/copy'), { recursive: true })
  await place.user('copy').fails(8, 'ls')
  await user.ok('ls')
})
