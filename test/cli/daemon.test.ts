import assert from 'node:assert/strict'
import { once } from 'node:events'
import { access, readdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { finish } from '../support/cli.js'
import { eventually } from '../support/hosts.js'
import { randomFile } from './blob.js'
import { gone, objects, Place, processesOf } from './place.js'

test('a verb starts it, quietly and detached', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  const { code, stderr } = await user.run('ls', '--json')
  assert.deepEqual([code, stderr], [0, ''])
  const pid = await user.daemonPid()
  const status = await user.result('daemon', 'status')
  assert.equal(status['pid'], pid)
  assert.equal(status['idleLimit'], 120)
  assert.equal((await stat(join(user.home, 'daemon.sock'))).mode & 0o777, 0o600)
  for (const name of await readdir(user.home, { recursive: true })) {
    const { mode } = await stat(join(user.home, name))
    const isOpen = (mode & 0o077) !== 0 && !name.startsWith('store/') && !name.startsWith('index/')
    assert.ok(!isOpen, `${name} is 0${(mode & 0o777).toString(8)}`)
  }
  assert.deepEqual(await user.result('daemon', 'stop'), {
    type: 'daemon',
    isRunning: false,
    wasRunning: true
  })
  await gone(pid)
  assert.equal((await user.result('daemon', 'status'))['isRunning'], false)
})

test('five verbs at once start one, and all succeed', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  const ran = await Promise.all(Array.from({ length: 5 }, () => user.run('ls')))
  assert.deepEqual(
    ran.map(({ code, stderr }) => ({ code, stderr: stderr.replace(/^no parcels.*\n/, '') })),
    ran.map(() => ({ code: 0, stderr: '' }))
  )
  await eventually(
    async () => ((await processesOf(user.home, 'daemon/main.js')).length === 1 ? true : null),
    'one daemon'
  )
})

test('in the foreground it says so, refuses a second, and ends by Ctrl-C with exit 0', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  const child = user.start('daemon', '--json')
  const [first]: unknown[] = await once(child.stdout ?? child, 'data')
  assert.equal(objects(String(first))[0]?.['pid'], child.pid)
  assert.equal(await user.daemonPid(), child.pid)
  await user.ok('ls')
  assert.match(await user.fails(1, 'daemon'), /in another process/)
  // The failed one must not have taken the socket of the first.
  await user.ok('ls')
  child.kill('SIGINT')
  assert.equal((await finish(child)).code, 0)
  await assert.rejects(access(join(user.home, 'daemon.sock')), { code: 'ENOENT' })
})

test('daemon stop ends one in the foreground', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  const child = user.start('daemon')
  await once(child.stdout ?? child, 'data')
  const ended = finish(child)
  await user.ok('daemon', 'stop')
  assert.equal((await ended).code, 0)
})

test('it ends when idle, but not while an invite is open', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one', { env: { HYPERPARCEL_IDLE: '0.5' } })
  await place.write('files/a', 'a')
  await user.ok('add', place.path('files'), '--name', 'files')
  await user.ok('suspend', 'files')
  await gone(await user.daemonPid())
  await user.ok('invite', 'files')
  const pid = await user.daemonPid()
  await sleep(2_000)
  assert.equal(await user.daemonPid(), pid)
})

test('a wrong HYPERPARCEL_IDLE is exit 2', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one', { env: { HYPERPARCEL_IDLE: 'soon' } })
  assert.match(await user.fails(2, 'ls'), /HYPERPARCEL_IDLE/)
})

test('another --bootstrap than the one it runs with is exit 2', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  await user.ok('ls')
  assert.match(await user.fails(2, 'ls', '--bootstrap', '127.0.0.1:9'), /daemon stop/)
  await user.ok('ls', '--bootstrap', place.bootstrap)
})

test('a socket left over by kill -9, or anything in its place, is no obstacle', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  await user.ok('ls')
  await user.killDaemon()
  await access(join(user.home, 'daemon.sock'))
  assert.equal((await user.result('daemon', 'status'))['isRunning'], false)
  await user.ok('ls')
  await user.killDaemon()
  await rm(join(user.home, 'daemon.sock'))
  await writeFile(join(user.home, 'daemon.sock'), 'a file')
  await user.ok('ls')
})

test('a home that is removed ends its daemon, before the next one in its place is written to', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  await user.ok('ls')
  const pid = await user.daemonPid()
  await rm(user.home, { recursive: true })
  await gone(pid)
  await user.ok('init', '--name', 'another')
  await place.write('files/a', 'new')
  await user.ok('add', place.path('files'), '--name', 'files')
  await user.ok('suspend', 'files')
  const moved = `${user.home}.moved`
  const second = await user.daemonPid()
  await rename(user.home, moved)
  await gone(second)
  await rename(moved, user.home)
  await user.ok('verify', 'files')
})

test('a very long home path works, daemon and machine', async (t) => {
  const place = await Place.make(t)
  const user = place.user(`${'long/'.repeat(30)}home`)
  await user.ok('init')
  await place.write('vm/note', 'x')
  await user.ok('add', place.path('vm'), '--name', 'vm', '--vm', 'v86')
  await user.ok('run', 'vm')
  assert.equal((await user.result('status', 'vm'))['state'], 'running')
  await user.ok('suspend', 'vm')
  await user.killDaemon()
  await user.ok('resume', 'vm')
  await user.ok('stop', 'vm')
  await user.ok('daemon', 'stop')
})

test('killed in the middle of a suspend: old versions stay, no half one, the next verb works', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  await place.write('files/a', 'first')
  await user.ok('add', place.path('files'), '--name', 'files')
  const first = await user.result('suspend', 'files')
  await randomFile(place.path('files/big'), 512)
  const child = user.start('suspend', 'files', '--json')
  const ended = finish(child)
  await once(child.stdout ?? child, 'data')
  await eventually(async () => ((await isStoring(user.home)) ? true : null), 'bytes in the store')
  await user.killDaemon()
  const { code, stdout } = await ended
  assert.equal(code, 1)
  assert.match(String(objects(stdout).at(-1)?.['message']), /do it again/)
  const log = objects(await user.ok('log', 'files', '--json'))
  assert.deepEqual(
    log.map(({ id }) => id),
    [first['id']]
  )
  const second = await user.result('suspend', 'files')
  assert.deepEqual(second['parents'], [first['id']])
  await user.ok('resume', 'files', '--version', String(first['id']), '--to', place.path('old'))
  assert.deepEqual(await readdir(place.path('old')), ['a'])
  await user.ok('resume', 'files', '--version', String(second['id']), '--to', place.path('new'))
  assert.deepEqual(await readdir(place.path('new')), ['a', 'big'])
  assert.deepEqual((await user.result('status', 'files'))['problems'], [])
})

/** Whether more than a little has been written. */
async function isStoring(home: string): Promise<boolean> {
  let bytes = 0
  for (const name of await readdir(join(home, 'store'), { recursive: true })) {
    bytes += (await stat(join(home, 'store', name)).catch(() => ({ size: 0 }))).size
  }
  return bytes > 32 * 1024 * 1024
}
