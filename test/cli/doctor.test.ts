import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { cp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { missingForQemu } from '../../examples/demo/linux-guest.js'
import { noFuse } from '../../lib/vmm/namespace.js'
import { Place } from './place.js'

const GUESTS = { skip: missingForQemu() ?? noFuse() ?? false }

test('doctor says what can be used here, and what happens without it', async (t) => {
  const place = await Place.make(t)
  const user = place.user('nobody')
  const { findings } = await user.result('doctor')
  assert.ok(Array.isArray(findings))
  const names = findings.map(({ name }) => name)
  assert.deepEqual(names, ['fuse', 'namespaces', 'perl', 'bwrap', 'qemu', 'kvm'])
  for (const { name, isUsable, consequence } of findings) {
    if (!isUsable && name !== 'bwrap') assert.match(String(consequence), /\w/)
  }
  const without = user.with({ PATH: place.path('empty') })
  const { findings: fewer } = await without.result('doctor')
  assert.ok(Array.isArray(fewer))
  assert.deepEqual(
    fewer.filter(({ name }) => ['perl', 'qemu'].includes(name)).map(({ isUsable }) => isUsable),
    [false, false]
  )
})

test(
  'the checklist for an accelerator is gone through on a guest of its own',
  GUESTS,
  async (t) => {
    const place = await Place.make(t)
    const temporary = place.path('tmp')
    await place.write('tmp/mine', 'stays')
    const user = place.user('nobody').with({ TMPDIR: temporary })
    const out = await user.ok('doctor', '--kvm', '--accelerator', 'tcg', '--json')
    const checks = out
      .trim()
      .split('\n')
      .map((line): Record<string, unknown> => JSON.parse(line))
    assert.deepEqual(
      checks.map(({ name, isGood }) => [name, isGood]),
      ['start', 'resume', 'count', 'faults', 'stored', 'dirty', 'model'].map((name) => [name, true])
    )
    assert.deepEqual(await readdir(temporary), ['mine'])
  }
)

test('what cannot be started is the end of the checklist, and exit 1', GUESTS, async (t) => {
  const place = await Place.make(t)
  const user = place.user('nobody').with({ PATH: place.path('empty'), TMPDIR: place.dir })
  const { code, stdout } = await user.run('doctor', '--kvm')
  assert.match(stdout, /^no +start +.*qemu/i)
  assert.equal(code, 1)
})

test('a store that was put back is shown by status and doctor, exit 8, until it is seen', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  await place.write('files/a', 'first')
  await user.ok('add', place.path('files'), '--name', 'files', '--vm', 'folder')
  await user.ok('suspend', 'files')
  await user.ok('doctor')
  await user.ok('daemon', 'stop')
  const db = join(user.home, 'store/db')
  await cp(db, place.path('backup'), { recursive: true })
  await place.write('files/a', 'second')
  await user.ok('suspend', 'files')
  await user.ok('daemon', 'stop')
  // The very store, as a backup program would write it over what is there.
  await rm(db, { recursive: true })
  await cp(place.path('backup'), db, { recursive: true })
  assert.match(await user.fails(8, 'doctor'), /put back for files/)
  assert.match(
    await user.ok('status', 'files'),
    /rolled back, noticed \d+:\d\d: this store was put back/
  )
  await user.ok('daemon', 'stop')
  const ran = await user.run('doctor', '--json')
  assert.equal(ran.code, 8)
  assert.match(ran.stdout, /"type":"rollback","name":"files"/)
  await user.ok('doctor', '--seen')
  await user.ok('doctor')
  assert.doesNotMatch(await user.ok('status', 'files'), /rolled back/)
  // What the folder has is a version again.
  await user.ok('suspend', 'files')
})
