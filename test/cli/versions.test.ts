import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { objects, Place, type User } from './place.js'

/** A host with the folder parcel "files" that has one version of one file. */
async function filesOf(t: TestContext): Promise<{ place: Place; user: User; first: string }> {
  const place = await Place.make(t)
  const user = await place.host('one')
  await place.write('files/a', 'first')
  await user.ok('add', place.path('files'), '--name', 'files')
  const { id } = await user.result('suspend', 'files', '-m', 'one')
  return { place, user, first: String(id) }
}

test('an older version by the beginning of its id; what no version has is never lost', async (t) => {
  const { place, user, first } = await filesOf(t)
  await place.write('files/a', 'second')
  await place.write('files/b', 'new')
  const { id, parents } = await user.result('suspend', 'files', '-m', 'two')
  assert.deepEqual(parents, [first])
  for (const wrong of ['', 'zz', 'ffffffffffff', `${first}00`]) {
    await user.fails(1, 'resume', 'files', '--version', wrong)
  }
  await user.ok('resume', 'files', '--version', first.slice(0, 8))
  assert.deepEqual(await readdir(place.path('files')), ['a'])
  assert.equal(await readFile(place.path('files/a'), 'utf8'), 'first')
  await user.ok('resume', 'files')
  assert.equal(await readFile(place.path('files/b'), 'utf8'), 'new')
  const log = objects(await user.ok('log', 'files', '--json'))
  assert.deepEqual(
    log.map((version) => version['message']),
    ['two', 'one']
  )
  assert.equal(log[0]?.['id'], id)
})

test('a changed folder is exit 4, --force overwrites it', async (t) => {
  const { place, user } = await filesOf(t)
  await place.write('files/stays', 'still')
  await user.ok('suspend', 'files')
  const changes: [string, () => Promise<unknown>][] = [
    ['is new', () => place.write('files/b', '')],
    ['is new', () => mkdir(place.path('files/folder'))],
    ['is new', () => symlink('a', place.path('files/link'))],
    ['was changed', () => place.write('files/a', 'other')],
    ['was removed', () => rm(place.path('files/a'))],
    ['is new', () => place.write('files/folder/deep/er', '')],
    [
      'changed',
      async () => {
        await rm(place.path('files/a'))
        await mkdir(place.path('files/a'))
      }
    ]
  ]
  for (const [what, change] of changes) {
    await change()
    const line = await user.fails(4, 'resume', 'files')
    assert.ok(line.includes(what) && line.includes('--force'), line)
    await user.ok('resume', 'files', '--force')
    assert.deepEqual(await readdir(place.path('files')), ['a', 'stays'])
    assert.equal(await readFile(place.path('files/a'), 'utf8'), 'first')
  }
  await rm(place.path('files'), { recursive: true })
  await user.ok('resume', 'files')
  assert.equal(await readFile(place.path('files/a'), 'utf8'), 'first')
})

test('--to a folder that is not empty is 4, into the home 2, onto a file 4', async (t) => {
  const { place, user } = await filesOf(t)
  await place.write('other/mine', 'mine')
  await place.write('file', '')
  await mkdir(place.path('empty'))
  await symlink(user.home, place.path('way'))
  await user.fails(4, 'resume', 'files', '--to', place.path('other'))
  await user.fails(4, 'resume', 'files', '--to', place.path('file'))
  for (const to of [user.home, join(user.home, 'run/x'), place.path('homes'), place.dir]) {
    await user.fails(2, 'resume', 'files', '--force', '--to', to)
  }
  for (const to of ['way/new', 'way/run', 'way']) {
    await user.fails(2, 'resume', 'files', '--force', '--to', place.path(to))
  }
  await user.fails(2, 'resume', 'files', '--to', '')
  assert.equal(await readFile(place.path('other/mine'), 'utf8'), 'mine')
  await user.ok('resume', 'files', '--to', place.path('empty'))
  await user.ok('resume', 'files', '--to', place.path('new/deep/er'))
  assert.deepEqual(await readdir(place.path('new/deep')), ['er'])
  await user.ok('ls')
})

test('the folder of another parcel is never overwritten by --force', async (t) => {
  const { place, user } = await filesOf(t)
  await place.write('second/b', 'only here')
  await user.ok('add', place.path('second'), '--name', 'second')
  await user.fails(4, 'resume', 'files', '--force', '--to', place.path('second'))
  assert.equal(await readFile(place.path('second/b'), 'utf8'), 'only here')
})

test('a folder reached by a symlink keeps being the folder behind it', async (t) => {
  const { place, user } = await filesOf(t)
  await mkdir(place.path('real'))
  await symlink('real', place.path('link'))
  await user.ok('resume', 'files', '--to', place.path('link'))
  assert.equal(await readFile(place.path('real/a'), 'utf8'), 'first')
})

test('two heads: exit 4 names them, --version chooses', async (t) => {
  const { place, user, first } = await filesOf(t)
  await place.write('files/a', 'left')
  const left = String((await user.result('suspend', 'files'))['id'])
  await user.ok('resume', 'files', '--version', first)
  await place.write('files/a', 'right')
  const right = String((await user.result('suspend', 'files'))['id'])
  const line = await user.fails(4, 'resume', 'files')
  for (const id of [left, right]) assert.ok(line.includes(id.slice(0, 12)), line)
  assert.match(await user.ok('status', 'files'), /conflict/)
  const log = await user.ok('log', 'files')
  assert.equal(log.split('\n').filter((text) => /^[| ]*\*/.test(text)).length, 2)
  await user.ok('resume', 'files', '--version', left)
  assert.equal(await readFile(place.path('files/a'), 'utf8'), 'left')
  await user.ok('resume', 'files', '--version', right)
  assert.equal(await readFile(place.path('files/a'), 'utf8'), 'right')
})

test('one folder and one name are one parcel, also when asked at once', async (t) => {
  const { place, user } = await filesOf(t)
  await user.fails(1, 'add', place.path('files'), '--name', 'again')
  await user.fails(2, 'add', user.home, '--name', 'home')
  await user.fails(2, 'add', place.dir, '--name', 'above')
  await mkdir(place.path('same'))
  await mkdir(place.path('other'))
  await mkdir(place.path('files2'))
  // Not by the command line: its start would spread them out.
  const add = (folder: string, name: string) =>
    user.client.call('add', { path: place.path(folder), name, vm: 'folder' })
  const folders = await Promise.allSettled([add('same', 'x'), add('same', 'y'), add('same', 'z')])
  const names = await Promise.allSettled([add('other', 'n'), add('files2', 'n')])
  assert.deepEqual(folders.map(({ status }) => status).toSorted(), [
    'fulfilled',
    'rejected',
    'rejected'
  ])
  assert.deepEqual(names.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected'])
  assert.equal(objects(await user.ok('ls', '--json')).length, 3)
})

test('a folder that is gone, or became a file, is a clear error', async (t) => {
  const { place, user } = await filesOf(t)
  await rm(place.path('files'), { recursive: true })
  assert.match(await user.fails(1, 'suspend', 'files'), /files/)
  await writeFile(place.path('files'), 'a file')
  assert.match(await user.fails(1, 'suspend', 'files'), /files/)
  assert.equal(objects(await user.ok('log', 'files', '--json')).length, 1)
  await user.fails(4, 'resume', 'files')
})

test('a folder left by a crash between the two renames is put back', async (t) => {
  const { place, user } = await filesOf(t)
  await place.write('files/precious', 'not suspended')
  await user.killDaemon()
  await rename(place.path('files'), place.path('.files.hyperparcel-previous'))
  await user.ok('ls')
  assert.equal(await readFile(place.path('files/precious'), 'utf8'), 'not suspended')
})

test('--scan full reads what looks unchanged; another word is exit 2', async (t) => {
  const { user } = await filesOf(t)
  await user.ok('suspend', 'files', '--scan', 'mtime')
  await user.ok('suspend', 'files', '--scan', 'full')
  const { code, stderr } = await user.run('suspend', 'files', '--scan', 'some')
  assert.equal(code, 2)
  assert.match(stderr, /mtime, full/)
  assert.match(await user.ok('suspend', '--help'), /--scan <how>.*mtime/s)
})
