import assert from 'node:assert/strict'
import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { test, type TestContext } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { output } from '../support/programs.js'
import { failure, objects, Place, type User } from './place.js'

/** A host with a folder parcel of two versions. */
async function twoVersions(t: TestContext): Promise<{
  place: Place
  user: User
  ids: [string, string]
}> {
  const place = await Place.make(t)
  const user = await place.host('one')
  await place.write('files/a', 'first')
  await place.write('files/sub/deep', 'deep')
  await user.ok('add', place.path('files'), '--name', 'files', '--vm', 'folder')
  const first = await user.result('suspend', 'files', '-m', 'one')
  await place.write('files/a', 'second')
  await place.write('files/b', 'new')
  const second = await user.result('suspend', 'files', '-m', 'two')
  return { place, user, ids: [String(first['id']), String(second['id'])] }
}

test('show, diff and tags: versions by id and by name', async (t) => {
  const { user, ids } = await twoVersions(t)
  const [first, second] = ids
  const shown = objects(await user.ok('show', 'files', first.slice(0, 8), '--json'))
  assert.deepEqual(
    shown.map(({ type, fileType = '', path = '' }) => [type, fileType, path].join(' ')),
    ['file file a', 'file folder sub', 'file file sub/deep', 'version  ']
  )
  assert.match(await user.ok('show', 'files'), /two[^]*3 files/)
  await user.ok('tag', 'files', 'before', first.slice(0, 8))
  await user.ok('tag', 'files', 'now')
  assert.deepEqual(
    objects(await user.ok('tag', 'files', '--json')).map(({ tag, version }) => [tag, version]),
    [
      ['before', first],
      ['now', second]
    ]
  )
  const changes = objects(await user.ok('diff', 'files', 'before', 'now', '--json'))
  assert.deepEqual(
    changes.map(({ kind, path, ranges }) => [kind, path, ranges]),
    [
      ['changed', 'a', [[0, 6]]],
      ['added', 'b', []],
      [undefined, undefined, undefined]
    ]
  )
  assert.match(await user.ok('diff', 'files', 'before'), /~ a {2}5 B → 6 B {2}0\+6\n\+ b/)
  assert.match(await user.ok('diff', 'files', 'now'), /no changes/)
  assert.match(await user.ok('log', 'files'), /^\* \w{12} {2}\(now\)[^]*\no \w{12} {2}\(before\)/)

  await user.fails(1, 'tag', 'files', 'before')
  await user.ok('tag', 'files', 'before', '--force')
  assert.match(await user.ok('diff', 'files', 'before', 'now'), /no changes/)
  await user.ok('tag', 'files', 'before', '--delete')
  await user.fails(1, 'tag', 'files', 'before', '--delete')
  await user.fails(2, 'tag', 'files', '--delete')
  await user.fails(1, 'diff', 'files', 'before')
  for (const wrong of ['', '-x', '../up', 'abcd', 'DEADBEEF', 'x'.repeat(65), 'a b', 'a\n']) {
    failure(await user.run('tag', 'files', '--', wrong), 2, `the tag ${JSON.stringify(wrong)}`)
  }
  // A restart reads the same.
  await user.ok('daemon', 'stop')
  assert.equal(objects(await user.ok('tag', 'files', '--json')).length, 1)
})

test('rollback makes a new version of an old one; the folder follows with the next resume', async (t) => {
  const { place, user, ids } = await twoVersions(t)
  const [first, second] = ids
  const made = await user.result('rollback', 'files', first.slice(0, 8))
  assert.deepEqual(made['parents'], [second])
  assert.equal(made['stored'], 0)
  assert.equal(await readFile(place.path('files/a'), 'utf8'), 'second')
  await user.ok('resume', 'files')
  assert.deepEqual(await readdir(place.path('files')), ['a', 'sub'])
  assert.equal(await readFile(place.path('files/a'), 'utf8'), 'first')
  await place.write('files/a', 'third')
  const third = await user.result('suspend', 'files')
  assert.deepEqual(third['parents'], [made['id']])
  assert.equal(objects(await user.ok('log', 'files', '--json')).length, 4)
  await user.fails(1, 'rollback', 'files', 'ffffffff')
})

test('restore writes a version, or some paths of it, into a folder of its own', async (t) => {
  const { place, user, ids } = await twoVersions(t)
  const [first] = ids
  const restored = await user.result('restore', 'files', first, '--to', place.path('all'))
  assert.equal(restored['files'], 2)
  assert.equal(await readFile(place.path('all/a'), 'utf8'), 'first')
  assert.equal(await readFile(place.path('all/sub/deep'), 'utf8'), 'deep')
  await user.ok('restore', 'files', first, 'sub/deep', '--to', place.path('some'))
  assert.deepEqual(await readdir(place.path('some'), { recursive: true }), ['sub', 'sub/deep'])
  await user.ok('restore', 'files', first, '/sub/', './a', '--to', place.path('more'))
  assert.deepEqual((await readdir(place.path('more'))).toSorted(), ['a', 'sub'])
  await user.ok('restore', 'files', first, '.', '--to', place.path('dot'))
  assert.deepEqual((await readdir(place.path('dot'))).toSorted(), ['a', 'sub'])
  await user.fails(1, 'restore', 'files', first, 'b', '--to', place.path('none'))
  await assert.rejects(stat(place.path('none')), { code: 'ENOENT' })
  for (const [exit, to] of [
    [4, 'all'],
    [4, 'files'],
    [4, 'files/sub/new'],
    [4, 'all/a'],
    [2, 'homes/one/new']
  ] as const) {
    await user.fails(exit, 'restore', 'files', first, '--to', place.path(to))
  }
  // The parcel's folder is what it was.
  assert.match(await user.ok('diff', 'files', first), /~ a/)
  assert.equal(await readFile(place.path('files/a'), 'utf8'), 'second')
})

test('a path is restored by the name that is listed, never by one that only looks like it', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  await place.write('files/\u{fffd}', 'the character')
  await place.write('files/two\nlines', 'two lines')
  const raw = (byte: number, where = ''): Buffer =>
    Buffer.concat([Buffer.from(place.path(`files/${where}`)), Buffer.from([byte])])
  await writeFile(raw(0x80), 'a byte')
  await place.write('files/sub/x', 'x')
  await writeFile(raw(0x81, 'sub/'), 'another byte')
  await user.ok('add', place.path('files'), '--name', 'files')
  const { id } = await user.result('suspend', 'files')
  const restore = ['restore', 'files', String(id)]
  let n = 0
  const contents = async (path: string): Promise<string> => {
    const to = place.path(`out${n++}`)
    await user.ok(...restore, path, '--to', to)
    return output('find', [to, '-type', 'f', '-exec', 'cat', '{}', '+'])
  }
  const listed = objects(await user.ok('show', 'files', '--json')).flatMap(({ path }) => path ?? [])
  assert.ok(listed.includes('two\\u{a}lines'))
  assert.equal(await contents('two\\u{a}lines'), 'two lines')
  assert.equal(await contents('two\nlines'), 'two lines')
  assert.equal(await contents('sub/\\u{fffd}'), 'another byte')
  // One is the character, the other a byte that is shown as it.
  for (const name of ['\u{fffd}', '\\u{fffd}']) {
    const line = await user.fails(2, ...restore, name, '--to', place.path('none'))
    assert.match(line, /could be 2 things/)
  }
  assert.match(await user.fails(2, ...restore, '', '--to', place.path('none')), /empty path/)
})

test('rename is for this host alone', async (t) => {
  const { place, user } = await twoVersions(t)
  await place.write('other/x', 'x')
  await user.ok('add', place.path('other'), '--name', 'other', '--vm', 'folder')
  await user.fails(1, 'rename', 'files', 'other')
  await user.fails(2, 'rename', 'files', '../up')
  await user.ok('rename', 'files', 'papers')
  await user.fails(1, 'status', 'files')
  await user.ok('daemon', 'stop')
  assert.equal(objects(await user.ok('log', 'papers', '--json')).length, 2)
  await user.ok('suspend', 'papers')
})

test('discard makes the folder its version again', async (t) => {
  const { place, user } = await twoVersions(t)
  await place.write('files/a', 'unsaved')
  await place.write('files/more', 'unsaved')
  await rm(place.path('files/b'))
  await user.fails(4, 'resume', 'files')
  await output('mkfifo', [place.path('files/pipe')])
  assert.match(await user.fails(4, 'discard', 'files'), /pipe is in no version .*: move it out/)
  assert.equal(await readFile(place.path('files/a'), 'utf8'), 'unsaved')
  await rm(place.path('files/pipe'))
  await user.ok('discard', 'files')
  assert.deepEqual(await readdir(place.path('files')), ['a', 'b', 'sub'])
  assert.equal(await readFile(place.path('files/a'), 'utf8'), 'second')
  await user.ok('resume', 'files')
  await place.write('new/x', 'x')
  await user.ok('add', place.path('new'), '--name', 'new', '--vm', 'folder')
  await user.fails(4, 'discard', 'new')
  await user.fails(1, 'discard', 'files', '--mounted')
})

test('a machine that ran on is what it was when it was suspended', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  await place.write('vm/machine.json', JSON.stringify({ vmm: 'v86', memory: '4M' }))
  await user.ok('add', place.path('vm'), '--name', 'vm', '--vm', 'v86')
  await user.ok('run', 'vm')
  await setTimeout(500)
  const { id } = await user.result('suspend', 'vm')
  await user.ok('resume', 'vm')
  await user.fails(1, 'discard', 'vm')
  await setTimeout(500)
  await user.ok('stop', 'vm')
  assert.equal((await user.result('status', 'vm'))['state'], 'off')
  assert.match(await user.ok('status', 'vm'), /off, not suspended.*\n(.*\n)*.* is in none/)
  await user.ok('discard', 'vm')
  const { state, heads } = JSON.parse(await user.ok('status', 'vm', '--json'))
  assert.deepEqual([state, heads[0].id], ['suspended', id])
  await user.ok('resume', 'vm', '--offline')
  await user.ok('stop', 'vm')
})
